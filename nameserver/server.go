package nameserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// Deps are what a server is given besides its configuration. Nil fields are
// left out.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Health  *health.Checks
	// Now is the clock of rate limits and metrics; nil means time.Now.
	Now func() time.Time
}

func (d *Deps) fill() {
	if d.Log == nil {
		d.Log = logging.Discard()
	}
	if d.Health == nil {
		d.Health = new(health.Checks)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
}

// A Server is a name server. It is made by [New] and works until the Run it is
// given ends.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	backend  // ledger and stores; set by New
	rules    atomic.Pointer[policy.Policy]
	tokens   atomic.Pointer[tokenSet]
	limiter  *policy.Limiter
	upstream http.Client   // of a mirror, to its writer
	reloaded chan struct{} // of capacity one; wakes recordPolicy
	held     atomic.Int64  // registrations under way or held
	conns    *connTable

	followers followers // mirrors that follow this server

	certs *certs.Manager // nil without TLS
	plain net.Listener   // nil when off
	tls   net.Listener   // nil when off
	http  *http.Server
}

// backend is what a server stands on.
type backend struct {
	reader       registry.Reader
	writer       registry.Writer
	reservations store.Reservations // nil on a mirror
	members      service.Group      // what must run besides HTTP
	witness      http.Handler       // POST /witness/add-checkpoint; nil when off
	close        func() error
}

// New checks cfg, opens the ledger, which reads and checks all of it, and
// listens. It starts nothing. A server that is not going to run is released by
// a Run whose context is done.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	deps.fill()
	b, err := openBackend(ctx, cfg, deps)
	if err != nil {
		return nil, err
	}
	s, err := newServer(cfg, deps, b)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return s, nil
}

// maxUpstream bounds a mirror's connections to its writer.
const maxUpstream = 64

func newServer(cfg Config, deps Deps, b backend) (*Server, error) {
	s := &Server{
		cfg: cfg, log: deps.Log, now: deps.Now, backend: b,
		limiter: policy.NewLimiter(cfg.effectivePolicy()),
		conns:   newConnTable(cfg.Limits.Connections),
	}
	if err := s.loadFiles(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		s.closeListeners()
		return nil, err
	}
	s.metrics = newMetrics(deps.Metrics, s)
	s.addChecks(deps.Health)
	s.http = httpapi.NewServer(s.routes(), httpapi.Limits{
		ReadHeader: cfg.Limits.ReadHeader, Read: cfg.Limits.Read, Write: cfg.Limits.Write, Idle: cfg.Limits.Idle,
	}, deps.Log)
	s.http.ConnState = s.conns.track
	s.upstream.Transport = &http.Transport{MaxConnsPerHost: maxUpstream, IdleConnTimeout: cfg.Limits.Idle}
	return s, nil
}

// loadFiles reads what may change while the server runs: the allow-list and
// the ledger's tokens.
func (s *Server) loadFiles() error {
	rules, err := policy.New(s.cfg.effectivePolicy())
	if err != nil {
		return err
	}
	tokens, err := readTokens(s.cfg.Ledger.TokensFile)
	if err != nil {
		return err
	}
	s.rules.Store(rules)
	s.tokens.Store(tokens)
	return nil
}

func (s *Server) policy() *policy.Policy { return s.rules.Load() }

func (s *Server) listen() (err error) {
	if s.cfg.TLS.Enabled() {
		if s.certs, err = certs.New(s.cfg.TLS, s.log); err != nil {
			return err
		}
	}
	if s.cfg.Listen != "" {
		if s.plain, err = net.Listen("tcp", s.cfg.Listen); err != nil {
			return fmt.Errorf("nameserver: %w", err)
		}
	}
	if s.cfg.TLSListen != "" {
		if s.tls, err = net.Listen("tcp", s.cfg.TLSListen); err != nil {
			return fmt.Errorf("nameserver: %w", err)
		}
	}
	return nil
}

func (s *Server) closeListeners() {
	for _, ln := range []net.Listener{s.plain, s.tls} {
		if ln != nil {
			ln.Close()
		}
	}
}

// addChecks makes /readyz tell whether answers are worth having: the whole
// store read, and the sequencer alive.
func (s *Server) addChecks(checks *health.Checks) {
	checks.Add("ledger", func(context.Context) error {
		if st := s.reader.Status(); !st.Ready {
			return fmt.Errorf("ledger not ready: %s", st.Reason)
		}
		return nil
	})
	checks.Add("sequencer", func(context.Context) error {
		st := s.reader.Status()
		if age := s.now().Sub(st.CheckpointAt); st.QueueLength > 0 && age > s.cfg.Ledger.MaxAge {
			return fmt.Errorf("%d registrations wait, and the last checkpoint is %v old", st.QueueLength, age.Round(time.Second))
		}
		if st.ReadOnly && s.cfg.Follow.URL == "" {
			return fmt.Errorf("read-only: %s", st.Reason)
		}
		return nil
	})
}

// Run serves until ctx is done, lets requests under way finish, and returns
// once everything it began has ended and the store is closed.
func (s *Server) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		s.closeListeners()
		return s.close()
	}
	// The ledger must outlive the requests that wait for it.
	back, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	members := append(service.Group{{Name: "policy", Runner: runFunc(s.recordPolicy)}}, s.members...)
	go func() { done <- members.Run(back) }() // ends with back, or on a failure of its own
	front, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	watch := make(chan struct{})
	go func() { // ends when members have; then there is nothing left to serve
		defer close(watch)
		failed = <-done
		cancel()
	}()
	err := s.serve(front)
	s.upstream.CloseIdleConnections()
	stop()
	<-watch
	return errors.Join(err, failed, s.close())
}

func (s *Server) serve(ctx context.Context) error {
	var listeners []net.Listener
	if s.plain != nil {
		listeners = append(listeners, s.plain)
	}
	group := service.Group{}
	if s.tls != nil {
		listeners = append(listeners, newTLSListener(s.tls, s.certs))
		group = append(group, service.Member{Name: "certificates", Runner: s.certs})
	}
	group = append(group, service.Member{Runner: runFunc(func(ctx context.Context) error {
		return httpapi.Serve(ctx, s.http, s.cfg.ShutdownTimeout, listeners...)
	})})
	return group.Run(ctx)
}

// runFunc is a function as a service.Runner.
type runFunc func(context.Context) error

func (f runFunc) Run(ctx context.Context) error { return f(ctx) }

// recordPolicy writes the hash of the rules into the log at the start and
// after each reload that changes them.
func (s *Server) recordPolicy(ctx context.Context) error {
	for {
		err := s.insist(ctx, func() error { return s.writer.RecordPolicy(ctx, sha256.Sum256([]byte(s.policy().Rules()))) })
		if err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrReadOnly) {
			s.log.Warn("rules not recorded", logging.KeyErr, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.reloaded:
		}
	}
}

// Reload reads the certificates, the allow-list and the ledger's tokens again.
func (s *Server) Reload() error {
	var err error
	if s.certs != nil {
		err = s.certs.Reload()
	}
	err = errors.Join(err, s.loadFiles())
	select {
	case s.reloaded <- struct{}{}:
	default: // one is waiting already
	}
	return err
}

// Addr returns the address of the plain HTTP listener, or "".
func (s *Server) Addr() string { return addrOf(s.plain) }

// TLSAddr returns the address of the HTTPS listener, or "".
func (s *Server) TLSAddr() string { return addrOf(s.tls) }

func addrOf(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}

// Announce says how to reach the server.
func (s *Server) Announce() []string {
	var lines []string
	if s.plain != nil {
		lines = append(lines, "name server: http://"+s.Addr()+"/  (in Jami: account settings, name server)")
	}
	if s.tls != nil {
		lines = append(lines, "name server: https://"+s.TLSAddr()+"/")
	}
	return lines
}
