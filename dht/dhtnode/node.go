package dhtnode

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// Node is a node of the network. Create it with New. All methods are safe for concurrent use.
type Node struct {
	cfg      Config
	self     dht.InfoHash
	conns    []Conn
	log      *slog.Logger
	resolver Resolver
	clock    func() time.Time
	types    *dht.Types
	wake     chan struct{} // tells the agenda's goroutine to look again
	rearm    chan struct{} // tells the bootstrap goroutine to look again
	checks   chan check    // values whose signatures the pool verifies
	done     chan struct{} // closed when Run ends
	count    counters
	events   dispatcher

	mu          sync.Mutex // guards all below; a holder is "in a turn"
	fam         [2]*family
	store       *storage.Store
	tokens      *tokens
	limiter     *rateLimiter
	black       *blacklist
	parts       *wire.Reassembler
	pace        pacer
	agenda      timers
	certs       map[dht.PkID]dhtcrypto.Chain // found before
	published   bool                         // our certificate is being announced
	requests    map[requestKey]*request
	sockets     map[requestKey]*listenState // by the address listened on and the socket number
	watches     map[dht.InfoHash][]*watch
	puts        map[dht.InfoHash][]*put
	dirty       []*search // to be stepped before the turn ends
	hosts       []string  // entry points
	boot        bootstrapState
	rejoined    time.Time     // last time a failed search counted as lost connectivity
	rejoinPause time.Duration // until one counts again
	answeredAt  time.Time     // last reply to a request of ours
	status      [2]Status
	onStatus    func(v4, v6 Status)
	deferred    int        // large answers waiting for a proof
	verified    *dht.Value // being stored, its signature checked by the pool
	expiry      timer      // next end of life in storage
	sweep       timer
	sweepTimer  timer // of reassembly
	replica     timer // next round of storage maintenance

	// Of the running turn, kept for its memory.
	out            *outbox
	now            time.Time
	answer         wire.Packet
	text           []byte
	nodes4, nodes6 []byte
	fieldBuf       []byte
	encoded        []byte
	values         [][]byte
	gone           []storage.Gone
	closest        []*routing.Node
	learnt         []*routing.Node
	scratchNodes   []*routing.Node
	scratchAddrs   []dht.NodeAddr

	boxes sync.Pool // *outbox for turns that are not a reader's
}

// family is the part of a node that exists once for IPv4 and once for IPv6.
type family struct {
	v6       bool
	conn     int // index of the socket requests leave by
	cache    *routing.Cache
	table    *routing.Table
	searches map[dht.InfoHash]*search
	votes    votes
	maintain timer
	sought   time.Time // when somebody lost was last tried
}

const (
	inet4 = iota
	inet6
)

// New returns a node that has not started. The sockets in deps stay the caller's.
func New(cfg Config, deps Deps) (*Node, error) {
	if err := cfg.validate(deps); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, self: nodeID(cfg), conns: deps.Conns, log: deps.Log, resolver: deps.Resolver, clock: deps.Now,
		wake: make(chan struct{}, 1), rearm: make(chan struct{}, 1), done: make(chan struct{}),
		certs:    make(map[dht.PkID]dhtcrypto.Chain),
		requests: make(map[requestKey]*request), sockets: make(map[requestKey]*listenState),
		watches: make(map[dht.InfoHash][]*watch), puts: make(map[dht.InfoHash][]*put),
		hosts: cfg.Bootstrap, boot: bootstrapState{running: len(cfg.Bootstrap) > 0},
		parts: wire.NewReassembler(wire.DefaultReassemblyLimits()),
		pace:  pacer{to: make(map[netip.AddrPort]*burst)},
	}
	n.boxes.New = func() any { return new(outbox) }
	n.fillDefaults()
	now := n.clock()
	n.store = storage.New(cfg.Storage, now)
	n.tokens, n.black = newTokens(now), newBlacklist()
	n.limiter = newRateLimiter(cfg.rates())
	for i, c := range n.conns {
		n.addFamily(i, c.LocalAddr().Addr())
	}
	n.schedule(now)
	return n, nil
}

// nodeID applies the order of §1.2: configured, from the identity, random.
func nodeID(cfg Config) dht.InfoHash {
	switch {
	case !cfg.ID.IsZero():
		return cfg.ID
	case cfg.Identity != nil:
		return cfg.Identity.NodeID()
	}
	return dht.RandomInfoHash()
}

func (n *Node) fillDefaults() {
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.resolver == nil {
		n.resolver = net.DefaultResolver
	}
	if n.clock == nil {
		n.clock = time.Now
	}
	if n.cfg.Types == nil {
		n.cfg.Types = dhtcrypto.Types
	}
	n.types = n.cfg.Types(n.verifier)
	if n.cfg.IdleNodes <= 0 {
		n.cfg.IdleNodes = routing.DefaultIdle
	}
	if n.cfg.Searches <= 0 {
		n.cfg.Searches = maxSearches
	}
	if n.cfg.Workers <= 0 {
		n.cfg.Workers = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	n.checks = make(chan check, maxChecks)
	n.events.wake = make(chan struct{}, 1)
}

func (n *Node) addFamily(conn int, local netip.Addr) {
	i := familyOf(local)
	if n.fam[i] != nil {
		return
	}
	n.fam[i] = &family{
		v6: i == inet6, conn: conn, searches: make(map[dht.InfoHash]*search),
		cache: routing.NewCache(n.cfg.IdleNodes),
		table: routing.NewTable(n.self, n.cfg.Wide, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
	}
}

func familyOf(a netip.Addr) int {
	if a.Is4() || a.Is4In6() {
		return inet4
	}
	return inet6
}

// families calls yield for each family the node has sockets of.
func (n *Node) families(yield func(int, *family) bool) {
	for i, f := range n.fam {
		if f != nil && !yield(i, f) {
			return
		}
	}
}

// ID returns the node's id.
func (n *Node) ID() dht.InfoHash { return n.self }

// LocalAddrs returns the addresses of the node's sockets.
func (n *Node) LocalAddrs() (addrs []netip.AddrPort) {
	for _, c := range n.conns {
		addrs = append(addrs, c.LocalAddr())
	}
	return addrs
}

// Run works until ctx is done. It returns ctx's error, or that of a socket that cannot be read any more. It may be called
// once.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var readers, others sync.WaitGroup
	for i := range n.conns {
		readers.Go(func() {
			if err := n.read(ctx, i); err != nil {
				cancel(fmt.Errorf("dhtnode: socket %v: %w", n.conns[i].LocalAddr(), err))
			}
		})
	}
	for range n.cfg.Workers {
		others.Go(func() { n.verifyLoop(ctx) })
	}
	others.Go(func() { n.agendaLoop(ctx) })
	others.Go(func() { n.bootstrapLoop(ctx) })
	others.Go(func() { n.events.run(ctx) })
	<-ctx.Done()
	for _, c := range n.conns {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	readers.Wait()
	others.Wait()
	n.stop()
	for _, c := range n.conns {
		c.SetReadDeadline(time.Time{})
	}
	return context.Cause(ctx)
}

// stop ends all operations that still wait.
func (n *Node) stop() {
	close(n.done)
}

// turn runs f with the state locked, then the searches it touched, and sends what they said.
func (n *Node) turn(f func(now time.Time)) {
	o := n.boxes.Get().(*outbox)
	n.turnWith(o, f)
	n.flush(o)
	n.boxes.Put(o)
}

// turnWith is turn without sending.
func (n *Node) turnWith(o *outbox, f func(now time.Time)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, had := n.agenda.next()
	now := n.clock()
	n.out, n.now = o, now
	f(now)
	n.finish(now)
	n.out = nil
	if at, ok := n.agenda.next(); ok && (!had || at.Before(before)) {
		poke(n.wake)
	}
}

// finish steps the searches marked during the turn.
func (n *Node) finish(now time.Time) {
	for len(n.dirty) > 0 {
		s := n.dirty[len(n.dirty)-1]
		n.dirty = n.dirty[:len(n.dirty)-1]
		s.marked = false
		s.step(now)
	}
}

func (n *Node) flush(o *outbox) {
	if len(o.items) == 0 {
		return
	}
	if lost := o.flush(n.conns, nil); len(lost) > 0 {
		n.turn(func(now time.Time) { n.unreachable(lost, now) })
	}
}

// poke fills a channel of one without waiting.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// agendaLoop fires timers when they are due.
func (n *Node) agendaLoop(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-t.C:
		}
		n.turn(func(now time.Time) { n.agenda.run(now) })
		n.mu.Lock()
		at, ok := n.agenda.next()
		n.mu.Unlock()
		if ok {
			t.Reset(max(at.Sub(n.clock()), time.Millisecond))
		}
	}
}
