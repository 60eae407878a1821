package turnserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/hostaddr"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/credential"
	"github.com/jirani/jirani/turnserver/policy"
	"github.com/jirani/jirani/turnserver/relay"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	sweepEvery   = time.Second     // how late an allocation may expire, and metrics be
	addressEvery = 5 * time.Second // how late a new address of the host is known and served
)

// Deps are what the server is given. Nil fields do nothing.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Health  *health.Checks
	// Addresses lists the addresses of this host; nil asks the kernel.
	Addresses func() ([]hostaddr.Address, error)
}

// Server is a TURN server.
type Server struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	certs     *certs.Manager // nil without TLS
	tls       *tls.Config
	policy    *policy.Policy
	nonces    *credential.Nonces
	guard     *guard
	loops     []*relay.Loop
	kernel    kernel
	addresses func() ([]hostaddr.Address, error)
	placesMu  sync.Mutex        // held while listeners are opened, closed or released; guards warned
	warned    map[spot]struct{} // listeners that could not be opened, which was said
	lookups   chan struct{}     // a place per user table query
	strangers *allocation.Quota[netip.Addr]
	perUser   *allocation.Quota[userID]
	perSite   *allocation.Quota[netip.Addr]
	total     shape // buckets of the whole server

	realms   atomic.Pointer[realmSet]
	here     atomic.Pointer[places]
	draining atomic.Bool
	released atomic.Bool  // the addresses are free for another server
	conns    atomic.Int64 // stream and DTLS connections

	life       context.Context // set by Run before anything is served; done when clients are to be cut off
	background sync.WaitGroup  // goroutines of connections and allocations

	mu           sync.Mutex // guards what follows
	stopped      bool       // nothing new may begin
	numbered     uint64
	allocs       map[uint64]*alloc
	users        map[userID]*userShape
	pending      map[uint32]*peerConn
	reservations map[[8]byte]reservation
}

type userID struct{ realm, user string }

// userShape is the buckets that all allocations of one user share.
type userShape struct {
	up, down *allocation.Bucket
	count    int
}

// New checks cfg, opens what it names and listens. It serves nothing before Run.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Server{
		cfg: cfg, log: deps.Log, metrics: newMetrics(deps.Metrics), nonces: credential.NewNonces(cfg.Limits.NonceLifetime, now),
		guard:   newGuard(cfg.Limits.UnauthenticatedRate),
		policy:  policy.New(policy.Rules{LAN: cfg.Policy.LAN, Loopback: cfg.auto(cfg.Policy.Loopback), Allow: cfg.Policy.Allow, Deny: cfg.Policy.Deny}),
		lookups: make(chan struct{}, maxLookups), strangers: allocation.NewQuota[netip.Addr](cfg.Limits.UnauthenticatedConnections),
		perUser: allocation.NewQuota[userID](cfg.Limits.AllocationsPerUser), perSite: allocation.NewQuota[netip.Addr](cfg.Limits.AllocationsPerAddress),
		allocs: make(map[uint64]*alloc), users: make(map[userID]*userShape), pending: make(map[uint32]*peerConn),
		reservations: make(map[[8]byte]reservation), addresses: deps.Addresses, warned: make(map[spot]struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.addresses == nil {
		s.addresses = hostaddr.List
	}
	s.here.Store(&places{})
	s.total.up[2] = allocation.NewBucket(int64(cfg.Limits.RateTotal), now)
	s.total.down[2] = allocation.NewBucket(int64(cfg.Limits.RateTotal), now)
	if err := s.open(ctx); err != nil {
		s.closeAll()
		return nil, err
	}
	if deps.Health != nil {
		deps.Health.Add("listening", s.ready)
		deps.Health.Add("user_table", s.tablesReady)
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	if s.cfg.TLS.Enabled() {
		manager, err := certs.New(s.cfg.TLS, s.log)
		if err != nil {
			return err
		}
		s.certs, s.tls = manager, manager.TLSConfig()
	}
	realms, err := openRealms(ctx, s.cfg)
	if err != nil {
		return err
	}
	s.realms.Store(realms)
	workers := s.cfg.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	for range workers {
		loop, err := relay.NewLoop(s.metrics.unsent)
		if err != nil {
			return err
		}
		s.loops = append(s.loops, loop)
	}
	if err := s.openKernel(); err != nil {
		return err
	}
	_, err = s.look(ctx, time.Now())
	return err
}

// closeAll undoes open.
func (s *Server) closeAll() {
	for _, l := range s.here.Load().listeners {
		l.close()
	}
	for _, loop := range s.loops {
		loop.Close()
	}
	if realms := s.realms.Load(); realms != nil {
		realms.close()
	}
	s.kernel.close()
}

// Run serves until ctx is done, gives its addresses free for another server then, waits for its last allocation to end or for
// ShutdownTimeout, and returns once every goroutine has ended.
func (s *Server) Run(ctx context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.life = life
	var group, sweeping sync.WaitGroup
	failed := make(chan error, 1) // the first failure counts
	run := func(f func(context.Context) error) {
		group.Go(func() {
			if err := f(life); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	for _, loop := range s.loops {
		run(loop.Run)
	}
	s.accept(s.here.Load().listeners, run)
	if s.certs != nil {
		run(s.certs.Run)
	}
	sweeping.Go(func() { s.sweep(life, run) })
	var err error
	select {
	case <-ctx.Done():
		s.release()
		s.drain(failed)
	case err = <-failed:
	}
	s.stop()
	end()
	sweeping.Wait() // it opens listeners
	for _, l := range s.here.Load().listeners {
		l.close()
	}
	s.background.Wait()
	group.Wait()
	s.realms.Load().close()
	s.kernel.close()
	return err
}

// accept has listeners served that do not belong to a loop.
func (s *Server) accept(list []*listener, run func(func(context.Context) error)) {
	for _, l := range list {
		switch {
		case l.stream != nil:
			run(l.accept)
		case l.packets != nil:
			run(l.acceptDTLS)
		}
	}
}

// release lets nothing new begin and gives the addresses free, while the clients there are stay. No listener is opened any more: see look.
func (s *Server) release() {
	s.draining.Store(true)
	if s.cfg.ShutdownTimeout <= 0 || s.count() == 0 {
		return
	}
	s.placesMu.Lock()
	defer s.placesMu.Unlock()
	s.released.Store(true)
	for _, l := range s.here.Load().listeners {
		l.release()
	}
}

// drain waits for allocations to end by themselves.
func (s *Server) drain(failed <-chan error) {
	s.draining.Store(true)
	deadline := time.NewTimer(s.cfg.ShutdownTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(sweepEvery / 10)
	defer tick.Stop()
	for s.count() > 0 {
		select {
		case <-deadline.C:
			return
		case <-failed:
			return
		case <-tick.C:
		}
	}
}

// stop ends all allocations and lets nothing begin any more.
func (s *Server) stop() {
	s.mu.Lock()
	s.stopped = true
	for token, res := range s.reservations {
		delete(s.reservations, token)
		res.drop()
	}
	s.mu.Unlock()
	for _, a := range s.all() {
		a.end()
	}
}

// begin counts a goroutine of a connection or allocation in, unless the server is stopping. The goroutine calls background.Done.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.background.Add(1)
	return true
}

// enter counts a connection of a client in; leave counts it out. For a proxied one the client is not known yet.
func (s *Server) enter(client netip.Addr, proxied bool) bool {
	if n := s.conns.Add(1); s.cfg.Limits.Connections > 0 && n > int64(s.cfg.Limits.Connections) {
		s.conns.Add(-1)
		return false
	}
	if !proxied && !s.strangers.Take(site(client)) {
		s.conns.Add(-1)
		return false
	}
	if !s.begin() {
		s.conns.Add(-1)
		if !proxied {
			s.strangers.Give(site(client))
		}
		return false
	}
	return true
}

func (s *Server) leave() { s.conns.Add(-1) }

// all returns the allocations there are.
func (s *Server) all() []*alloc {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*alloc, 0, len(s.allocs))
	for _, a := range s.allocs {
		list = append(list, a)
	}
	return list
}

func (s *Server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.allocs)
}

// sweep ends what has expired, keeps the metrics fresh, and follows the addresses of the host.
func (s *Server) sweep(ctx context.Context, run func(func(context.Context) error)) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	nextLook := time.Now().Add(addressEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweepOnce(now)
			if now.Before(nextLook) {
				continue
			}
			nextLook = now.Add(addressEvery)
			s.kernel.follow(s.log)
			opened, err := s.look(ctx, now)
			if err != nil {
				s.log.Warn("own addresses not listed", logging.KeyErr, err)
			}
			s.accept(opened, run)
		}
	}
}

func (s *Server) sweepOnce(now time.Time) {
	s.kernel.renew()
	s.mu.Lock()
	for token, res := range s.reservations {
		if now.After(res.expiresAt) {
			delete(s.reservations, token)
			res.drop()
		}
	}
	s.mu.Unlock()
	for _, a := range s.all() {
		a.mu.Lock()
		expired := now.After(a.expiresAt)
		a.steer(now)
		a.mu.Unlock()
		if expired {
			a.end()
			continue
		}
		a.report(s.metrics)
	}
}

// Addrs returns the addresses of the listeners of one transport ("udp", "tcp", "tls", "dtls"), with the ports the system chose.
func (s *Server) Addrs(transport string) (out []netip.AddrPort) {
	for _, l := range s.here.Load().listeners {
		if l.transport.String() == transport {
			out = append(out, l.addr)
		}
	}
	return out
}

// Announce says where the server is, for people who try it.
func (s *Server) Announce() (lines []string) {
	for _, l := range s.here.Load().listeners {
		line := fmt.Sprintf("TURN over %v at %v", l.transport, l.addr)
		if s.cfg.auto(s.cfg.JamiUser) {
			line += " (user, password and realm: ring)"
		}
		lines = append(lines, line)
	}
	return lines
}

// Reload reads users, secrets and certificates again. On an error what was in force stays in force.
func (s *Server) Reload() error {
	var errs []error
	if s.certs != nil {
		errs = append(errs, s.certs.Reload())
	}
	realms, err := s.realms.Load().reread(s.cfg)
	if err == nil {
		s.realms.Store(realms)
	}
	return errors.Join(append(errs, err)...)
}

func (s *Server) ready(context.Context) error {
	if s.draining.Load() {
		return errors.New("draining: no new allocations")
	}
	return nil
}

func (s *Server) tablesReady(ctx context.Context) error { return s.realms.Load().ping(ctx) }
