package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/discovery"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/udpio"
	"github.com/prometheus/client_golang/prometheus"
)

// Deps is what the server works with. Fields may be nil.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Health  *health.Checks
}

// Server is a bootstrap node. Create it with New.
type Server struct {
	cfg     Config
	log     *slog.Logger
	conns   []*udpio.Conn
	node    *dhtnode.Node
	lan     *discovery.Discovery // nil unless configured
	lock    *durable.Lock        // nil without state file
	metrics *metrics

	isolation isolation
}

// New checks cfg, takes the state directory, binds the addresses and reads the state file. It starts nothing; Run does, and
// releases all of it.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: deps.Log}
	if s.log == nil {
		s.log = logging.Discard()
	}
	if err := s.open(); err != nil {
		s.abandon()
		return nil, err
	}
	s.metrics = newMetrics(s)
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(s.metrics); err != nil {
			s.abandon()
			return nil, fmt.Errorf("bootstrap: metrics: %w", err)
		}
	}
	if deps.Health != nil {
		deps.Health.Add("dht", s.ready)
	}
	return s, nil
}

func (s *Server) open() (err error) {
	identity, err := s.cfg.Identity.load()
	if err != nil {
		return err
	}
	if s.cfg.StateFile != "" {
		if s.lock, err = durable.LockDir(filepath.Dir(s.cfg.StateFile)); err != nil {
			return err
		}
	}
	if s.conns, err = listen(s.cfg, s.log); err != nil {
		return err
	}
	if s.cfg.LAN {
		if s.lan, err = discovery.New(s.log); err != nil {
			return fmt.Errorf("bootstrap: lan: %w", err)
		}
	}
	return s.makeNode(identity)
}

// load reads the files, if any are named.
func (i Identity) load() (*dhtcrypto.Identity, error) {
	if i.Certificate == "" {
		return nil, nil
	}
	var password string
	if i.PasswordFile != "" {
		var err error
		if password, err = i.PasswordFile.Read(); err != nil {
			return nil, err
		}
	}
	id, err := dhtcrypto.LoadFiles(i.Certificate, string(i.PrivateKey), []byte(password))
	if err != nil {
		return nil, fmt.Errorf("bootstrap: identity: %w", err)
	}
	return &id, nil
}

// makeNode builds the node, with the acquaintances and values of the state file if there is one, and not with its id: whoever knows the id
// takes it that this node still has its listens and the values it put since the file was written, and gives them again only when it
// would renew them, after 20 s and up to ten minutes. To a node it does not know it gives all at once. Upstream's nodes change theirs too.
func (s *Server) makeNode(identity *dhtcrypto.Identity) error {
	saved, err := s.loadState()
	if err != nil {
		return err
	}
	c := s.cfg
	cfg := dhtnode.Config{
		Identity: identity, Network: c.Network, Bootstrap: c.Bootstrap, Wide: true,
		PublicStable: c.PublicStable, Maintain: c.Maintain, Allow: c.Allow,
		RateLimit: c.Limits.Requests, RateLimitPerSource: c.Limits.RequestsPerSource,
		Storage: storage.Limits{
			Bytes: int64(c.Limits.Storage), BytesPerSource: int64(c.Limits.StoragePerSource),
			Keys: c.Limits.Keys, ValuesPerKey: c.Limits.ValuesPerKey, Listeners: c.Limits.Listens,
			ListenersPerSource: c.Limits.ListensPerSource, ListenersPerKey: c.Limits.ListensPerKey,
		},
	}
	deps := dhtnode.Deps{Log: s.log}
	for _, conn := range s.conns {
		deps.Conns = append(deps.Conns, conn)
	}
	if s.node, err = dhtnode.New(cfg, deps); err != nil {
		return err
	}
	s.restore(saved)
	return nil
}

// Run serves until ctx is done, writes the state file and releases everything. It returns when all its goroutines have
// ended.
func (s *Server) Run(ctx context.Context) error {
	defer s.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if ctx.Err() == nil { // a run that is over before it begins only releases
		s.log.Info("dht node serving", logging.KeyNodeID, s.node.ID().String(), logging.KeyListen, s.Addrs(), "network", s.cfg.Network)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.keepState(ctx) })
	if s.lan != nil {
		s.joinLAN()
		wg.Go(func() { s.lan.Run(ctx) })
	}
	err := s.runNode(ctx)
	cancel()
	wg.Wait()
	s.saveState(time.Now())
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// leaveWithin bounds the announcing of values at the end.
const leaveWithin = 10 * time.Second

// runNode runs the node until ctx is done and its values, if they are maintained, are with others.
func (s *Server) runNode(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.node.Run(running) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	leaving, cancel := context.WithTimeout(running, leaveWithin)
	defer cancel()
	if handed, err := s.node.Leave(leaving); err != nil || handed > 0 {
		s.log.Info("values handed to other nodes", "values", handed, logging.KeyErr, err)
	}
	stop()
	return <-ended
}

// abandon closes what New opened on a server that will not run.
func (s *Server) abandon() {
	if s.lan != nil { // its sockets are closed by its Run
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.lan.Run(ctx)
	}
	s.release()
}

// release closes sockets and lock at the end.
func (s *Server) release() {
	for _, c := range s.conns {
		c.Close()
	}
	if s.lock != nil {
		if err := s.lock.Unlock(); err != nil && !errors.Is(err, fs.ErrClosed) {
			s.log.Warn("state directory not unlocked", logging.KeyErr, err)
		}
	}
}

// Node returns the node, for those who run it in their own process.
func (s *Server) Node() *dhtnode.Node { return s.node }

// Addrs are the addresses bound, each once.
func (s *Server) Addrs() (addrs []netip.AddrPort) {
	seen := make(map[netip.AddrPort]bool)
	for _, c := range s.conns {
		if a := c.LocalAddr(); !seen[a] {
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Announce says how to reach the node.
func (s *Server) Announce() []string {
	lines := []string{fmt.Sprintf("DHT node %v of network %d", s.node.ID(), s.cfg.Network)}
	for _, a := range s.Addrs() {
		lines = append(lines, fmt.Sprintf("UDP %v    try: dhtnode -b %v -n %d", a, a, s.cfg.Network))
	}
	return lines
}
