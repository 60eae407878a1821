// Package dhttest is a network in memory for tests: datagram sockets with latency, loss, duplication and partitions, and
// clusters of DHT nodes on them. Everything waits on channels and timers only, so that a test in a testing/synctest bubble
// runs hours of network life in moments.
package dhttest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/udpio"
)

// maxQueued bounds the datagrams waiting at a socket; more are lost, as in a kernel.
const maxQueued = 1 << 16

// Net carries datagrams. Change its exported fields only through Set.
type Net struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*Conn
	link  Link
	rng   *rand.Rand
	sent  int
}

// Link describes what happens to datagrams. The zero Link delivers everything at once.
type Link struct {
	Latency time.Duration                  // one way
	Jitter  time.Duration                  // added at random; above 0 datagrams overtake each other
	Loss    float64                        // probability, 0–1
	Twice   float64                        // probability that a datagram arrives twice
	Cut     func(from, to netip.Addr) bool // true loses the datagram; nil = never
}

// NewNet returns a network whose chances follow seed.
func NewNet(l Link, seed uint64) *Net {
	return &Net{conns: make(map[netip.AddrPort]*Conn), link: l, rng: rand.New(rand.NewPCG(seed, seed))}
}

// Set replaces the link's properties for what is sent from now on.
func (n *Net) Set(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
}

// Sent returns how many datagrams were sent.
func (n *Net) Sent() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// Listen opens a socket. The address must be free.
func (n *Net) Listen(addr netip.AddrPort) *Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[addr] != nil {
		panic("dhttest: address taken")
	}
	c := &Conn{net: n, addr: addr, signal: make(chan struct{}, 1)}
	n.conns[addr] = c
	return c
}

func (n *Net) send(from netip.AddrPort, b []byte, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	if n.link.Cut != nil && n.link.Cut(from.Addr(), to.Addr()) || n.rng.Float64() < n.link.Loss {
		return
	}
	times := 1
	if n.rng.Float64() < n.link.Twice {
		times = 2
	}
	c := n.conns[to]
	if c == nil {
		return
	}
	for range times {
		wait := n.link.Latency
		if n.link.Jitter > 0 {
			wait += time.Duration(n.rng.Int64N(int64(n.link.Jitter)))
		}
		c.push(datagram{append([]byte(nil), b...), from, time.Now().Add(wait)})
	}
}

// datagram is on its way until it is due.
type datagram struct {
	b    []byte
	from netip.AddrPort
	due  time.Time
}

// Conn is a socket of a Net. It has the methods dhtnode.Conn asks for.
type Conn struct {
	net    *Net
	addr   netip.AddrPort
	signal chan struct{} // something is queued, or the state changed

	mu      sync.Mutex
	queue   []datagram // what is due first comes first
	expired bool
	closed  bool
}

func (c *Conn) push(p datagram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) < maxQueued && !c.closed {
		at, _ := slices.BinarySearchFunc(c.queue, p, func(q, p datagram) int {
			if q.due.After(p.due) {
				return 1
			}
			return -1 // behind those of the same time
		})
		c.queue = slices.Insert(c.queue, at, p)
		c.wake()
	}
}

func (c *Conn) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// ReadBatch waits for datagrams.
func (c *Conn) ReadBatch(ms []udpio.Message) (int, error) {
	for {
		n, due, err := c.take(ms)
		if n > 0 || err != nil {
			return n, err
		}
		c.await(due)
	}
}

// await waits for a signal, or until a datagram is due if due is not zero. It takes a timer's channel rather than time.AfterFunc: with Go
// 1.26 the race detector crashes now and then where very many of those begin their goroutines in a bubble of testing/synctest.
func (c *Conn) await(due time.Time) {
	if due.IsZero() {
		<-c.signal
		return
	}
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-c.signal:
	case <-t.C:
	}
}

// take reads what is due, or else tells when something will be.
func (c *Conn) take(ms []udpio.Message) (n int, due time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, due, net.ErrClosed
	case c.expired:
		return 0, due, os.ErrDeadlineExceeded
	}
	now := time.Now()
	for n < min(len(ms), len(c.queue)) && !c.queue[n].due.After(now) {
		p := c.queue[n]
		ms[n].N, ms[n].Addr = copy(ms[n].Buf, p.b), p.from
		ms[n].SegmentSize, ms[n].Truncated = 0, false
		n++
	}
	if c.queue = c.queue[n:]; len(c.queue) > 0 {
		due = c.queue[0].due
		if n > 0 {
			c.wake() // more may be due
		}
	}
	return n, due, nil
}

// WriteBatch sends datagrams; it never fails, as networks do not tell.
func (c *Conn) WriteBatch(ms []udpio.Message) (int, error) {
	for i := range ms {
		for b := range ms[i].Segments {
			c.net.send(c.addr, b, ms[i].Addr)
		}
	}
	return len(ms), nil
}

// LocalAddr returns the socket's address.
func (c *Conn) LocalAddr() netip.AddrPort { return c.addr }

// SetReadDeadline knows two deadlines: one in the past wakes readers, any other lifts it.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = !t.IsZero() && t.Before(time.Now())
	c.wake()
	return nil
}

// Close frees the address.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c.addr)
	c.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake()
	return nil
}

// TryReadBatch takes the datagrams that are there and does not wait.
func (c *Conn) TryReadBatch(ms []udpio.Message) int {
	n, _, err := c.take(ms)
	if err != nil {
		return 0
	}
	return n
}
