package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/distributor"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

// Deps are what a server is given besides its configuration. Nil fields are left out.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Health  *health.Checks
}

// Server is a push gateway.
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	senders  *senders
	disp     *dispatch.Dispatcher
	feedback *feedback
	hook     *webhook            // nil when off
	dist     *distributor.Server // nil when off
	tokens   atomic.Pointer[tokenSet]
	guarded  bool // callers of /v1 need credentials
	// mutualTLS is the configuration of the next connection, unused without client_ca_file.
	mutualTLS atomic.Pointer[tls.Config]
	certs     *certs.Manager
	waits     sync.WaitGroup // of batches that wait

	http, distHTTP         *http.Server
	listener, distListener net.Listener
}

// New checks cfg, reads credentials, opens the distributor's database if there is one, and listens. It starts
// nothing. A server that is not going to run is released by a Run whose context is done.
func New(cfg Config, deps Deps) (*Server, error) { return newServer(cfg, deps, nil) }

// newServer is New with simulators that run elsewhere, if sim is not nil.
func newServer(cfg Config, deps Deps, sim *fake.Network) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = logging.Discard()
	}
	s := &Server{cfg: cfg, log: deps.Log, feedback: newFeedback(cfg.Feedback.Keep, time.Now())}
	if err := s.open(deps, sim); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *Server) open(deps Deps, sim *fake.Network) (err error) {
	if err := s.loadTokens(); err != nil {
		return err
	}
	s.guarded = s.cfg.TokensFile != "" || s.cfg.ClientCAFile != ""
	if s.cfg.Distributor.Enabled {
		if s.dist, err = distributor.New(s.cfg.Distributor, s.log); err != nil {
			return err
		}
	}
	if s.senders, err = newSenders(s.cfg, s.dist, sim); err != nil {
		return err
	}
	if s.cfg.Feedback.WebhookURL != "" {
		if s.hook, err = newWebhook(s.cfg.Feedback, s.feedback, s.log); err != nil {
			return err
		}
	}
	s.metrics = newMetrics(s)
	s.disp = dispatch.New(s.cfg.Queue.dispatch(), dispatch.Deps{Lanes: s.senders.lanes, Observer: s, Log: s.log})
	if err := s.listen(); err != nil {
		return err
	}
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(s.metrics); err != nil {
			return fmt.Errorf("push: %w", err)
		}
	}
	if deps.Health != nil {
		deps.Health.Add("push queue", s.queueCheck)
	}
	return nil
}

func (s *Server) loadTokens() error {
	set, err := readTokens(s.cfg.TokensFile)
	if err != nil {
		return err
	}
	s.tokens.Store(&set)
	return nil
}

func (s *Server) listen() (err error) {
	if s.listener, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if s.cfg.TLS.Enabled() {
		if s.certs, err = certs.New(s.cfg.TLS, s.log); err != nil {
			return err
		}
		t := s.certs.TLSConfig().Clone()
		t.NextProtos = append([]string{"h2", "http/1.1"}, t.NextProtos...)
		if s.cfg.ClientCAFile != "" {
			if t, err = s.askForCertificates(t); err != nil {
				return err
			}
		}
		s.listener = tls.NewListener(s.listener, t)
	}
	s.http = httpapi.NewServer(s.routes(), httpapi.Limits{Body: maxRequest}, s.log)
	if s.dist == nil {
		return nil
	}
	if s.distListener, err = net.Listen("tcp", s.cfg.Distributor.Listen); err != nil {
		return fmt.Errorf("push: distributor: %w", err)
	}
	s.distHTTP = httpapi.NewServer(s.dist.Handler(), httpapi.Limits{}, s.log)
	return nil
}

// release closes what a server that will not run holds.
func (s *Server) release() error {
	var errs []error
	for _, ln := range []net.Listener{s.listener, s.distListener} {
		if ln != nil {
			errs = append(errs, ln.Close())
		}
	}
	if s.senders != nil {
		if s.senders.sim != nil {
			s.senders.sim.Close()
		}
		s.senders.close()
	}
	if s.dist != nil {
		errs = append(errs, s.dist.Close())
	}
	return errors.Join(errs...)
}

// Run serves until ctx is done, then takes no more, sends what is queued for at most queue.drain, and returns when
// every goroutine has ended.
func (s *Server) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		return s.release()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The servers stop first, then the dispatcher drains, then what it sends to goes.
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var front, behind errs
	s.log.Info("push gateway serving", s.addresses()...)
	front.run(cancel, func() error { return httpapi.Serve(ctx, s.http, s.cfg.Queue.Drain, s.listener) })
	front.run(cancel, func() error { return s.disp.Run(ctx) })
	if s.certs != nil {
		front.run(cancel, func() error { return s.certs.Run(ctx) })
	}
	if s.dist != nil {
		behind.run(cancel, func() error { return httpapi.Serve(back, s.distHTTP, time.Second, s.distListener) })
		behind.run(cancel, func() error { return s.dist.Run(back) })
	}
	if s.senders.sim != nil {
		behind.run(cancel, func() error { return s.senders.sim.Run(back) })
	}
	if s.hook != nil {
		behind.run(cancel, func() error { s.hook.run(back); return nil })
	}
	err := front.wait()
	s.waits.Wait()
	stopBack()
	s.senders.close()
	return errors.Join(err, behind.wait())
}

// errs runs functions and gathers their errors.
type errs struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

// run starts f and calls failed if it fails.
func (e *errs) run(failed func(), f func() error) {
	e.wg.Go(func() {
		if err := f(); err != nil {
			e.mu.Lock()
			e.errs = append(e.errs, err)
			e.mu.Unlock()
			failed()
		}
	})
}

func (e *errs) wait() error { e.wg.Wait(); return errors.Join(e.errs...) }

// Reload reads tokens, certificates and the providers' credentials again. What cannot be read stays as it was.
func (s *Server) Reload() error {
	list := []error{s.loadTokens(), s.loadClientCAs()}
	if s.certs != nil {
		list = append(list, s.certs.Reload())
	}
	if s.hook != nil {
		list = append(list, s.hook.Reload())
	}
	for _, reload := range s.senders.reload {
		list = append(list, reload())
	}
	return errors.Join(list...)
}

// Dispatcher takes messages from inside the process.
func (s *Server) Dispatcher() *dispatch.Dispatcher { return s.disp }

// Addr is where the gateway listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// DistributorAddr is where the distributor listens, nil when it is off.
func (s *Server) DistributorAddr() net.Addr {
	if s.distListener == nil {
		return nil
	}
	return s.distListener.Addr()
}

// addresses are attributes for the log.
func (s *Server) addresses() []any {
	out := []any{logging.KeyListen, s.Addr().String()}
	if a := s.DistributorAddr(); a != nil {
		out = append(out, "distributor", a.String())
	}
	return out
}

// Announce implements service.Announcer.
func (s *Server) Announce() []string {
	out := []string{"push gateway on http://" + s.Addr().String() + " (POST /api/push, POST /v1/pushes)"}
	if s.certs != nil {
		out[0] = "push gateway on https://" + s.Addr().String() + " (POST /api/push, POST /v1/pushes)"
	}
	if a := s.DistributorAddr(); a != nil {
		out = append(out, "UnifiedPush server on "+a.String()+"; enter "+s.cfg.Distributor.URL+" in the ntfy app")
	}
	if s.senders.sim != nil {
		out = append(out, "providers are simulated; nothing leaves this machine")
	}
	return out
}

// queueCheck fails while a lane is full: then messages are being shed or refused.
func (s *Server) queueCheck(context.Context) error {
	for name, st := range s.disp.Stats() {
		if n := st.Waiting[provider.Normal] + st.Waiting[provider.High] + st.Waiting[provider.Call]; n >= s.cfg.Queue.Messages {
			return fmt.Errorf("queue of %s is full", name)
		}
	}
	return nil
}
