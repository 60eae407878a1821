// Package h2pool keeps a few HTTP/2 connections to one origin and fills them with many streams.
//
// http.Transport would open a connection per request while it does not know yet that the origin speaks HTTP/2,
// and another whenever the streams of the first are used up; to some servers that looks like an attack. Here:
//
//   - connections are opened one at a time, up to Config.MaxConns, and only when the streams that the origin
//     grants on the others are all in use;
//   - a fresh connection carries one stream until the first answer has come, so that an origin that grants
//     streams only after it has seen credentials (Apple's) is not overrun;
//   - a connection that the origin bids farewell (GOAWAY) finishes its streams while another takes the new ones,
//     and a request that the origin says it has not touched is sent again, once per connection;
//   - an idle connection is kept, and probed with PING frames so that a dead one is noticed before it is needed.
//
// Requests beyond the granted streams wait in order of arrival.
package h2pool

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// ErrClosed is returned for requests after Close.
var ErrClosed = errors.New("h2pool: closed")

// Config describes a pool.
type Config struct {
	Addr        string        // host:port
	TLS         *tls.Config   // nil for the system's roots; the server name defaults to Addr's host
	MaxConns    int           // connections at most; 0 means 2
	DialTimeout time.Duration // TCP and TLS; 0 means 10 s
	PingEvery   time.Duration // of silence before a PING; 0 means 15 s
	PingTimeout time.Duration // for its answer; 0 means 5 s
	// Dial replaces TCP, nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Pool is an http.RoundTripper for one origin, safe for concurrent use. Close it to end its connections.
type Pool struct {
	cfg     Config
	tr      *http.Transport
	dialCtx context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	conns   []*conn
	dialing bool
	closed  bool
	opened  int // connections ever

	// waitMu is taken after mu, never before it: a connection's state hook runs inside calls made under mu.
	waitMu  sync.Mutex
	waiters []chan error // each is told once: nil to try again
}

// conn is a connection and whether it has answered yet. Fields belong to the pool's mutex.
type conn struct {
	*http.ClientConn
	proven bool
	probe  bool // its first stream is under way
}

// New opens nothing.
func New(cfg Config) *Pool {
	cfg.MaxConns = or(cfg.MaxConns, 2)
	cfg.DialTimeout = or(cfg.DialTimeout, 10*time.Second)
	cfg.PingEvery = or(cfg.PingEvery, 15*time.Second)
	cfg.PingTimeout = or(cfg.PingTimeout, 5*time.Second)
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	tr := &http.Transport{
		DialContext:            cfg.Dial,
		TLSClientConfig:        cfg.TLS.Clone(), // the transport writes into its own
		TLSHandshakeTimeout:    cfg.DialTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 32 << 10,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  cfg.PingEvery,
			PingTimeout:      cfg.PingTimeout,
			WriteByteTimeout: cfg.DialTimeout,
		},
	}
	tr.Protocols.SetHTTP2(true)
	p := &Pool{cfg: cfg, tr: tr}
	p.dialCtx, p.cancel = context.WithCancel(context.Background()) // the pool's own life, ended by Close
	return p
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// RoundTrip sends req on a connection with a free stream, waiting for one as long as req's context lasts. A
// request with a body needs GetBody to be sent again after GOAWAY or REFUSED_STREAM.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		c, err := p.acquire(req.Context())
		if err != nil {
			return nil, err
		}
		res, err := c.RoundTrip(req)
		p.answered(c, err)
		if err == nil || attempt >= p.cfg.MaxConns+1 || !untouched(err) || req.Context().Err() != nil {
			return res, err
		}
		if req, err = again(req, err); err != nil {
			return nil, err
		}
	}
}

// again prepares req for another attempt, or returns why, if it cannot be.
func again(req *http.Request, why error) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, why
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, why
	}
	req = req.Clone(req.Context())
	req.Body = body
	return req, nil
}

// untouched reports that the origin has promised not to have looked at the request (RFC 9113 §6.8, §8.7).
// net/http exports neither of the two errors it has for a request that a GOAWAY passed over; a test against a
// real GOAWAY holds their texts.
func untouched(err error) bool {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	text := err.Error()
	return text == "http2: Transport received Server's graceful shutdown GOAWAY" || text == "http2: client conn not usable"
}

// acquire reserves a stream.
func (p *Pool) acquire(ctx context.Context) (*conn, error) {
	for {
		if c, err := p.try(); c != nil || err != nil {
			return c, err
		}
		wait := make(chan error, 1)
		p.waitMu.Lock()
		p.waiters = append(p.waiters, wait)
		p.waitMu.Unlock()
		if c, err := p.try(); c != nil || err != nil { // what was freed before we waited told nobody
			p.unwait(wait)
			return c, err
		}
		p.dialIfDue()
		select {
		case err := <-wait:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			p.unwait(wait)
			return nil, ctx.Err()
		}
	}
}

// try reserves a stream on the first connection that has one, nil if none has.
func (p *Pool) try() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { return c.Err() != nil })
	for _, c := range p.conns {
		if (c.proven || !c.probe) && c.Reserve() == nil {
			c.probe = true
			return c, nil
		}
	}
	return nil, nil
}

// dialIfDue starts a dial if there may be one more connection and none is still to prove itself.
func (p *Pool) dialIfDue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	unproven := slices.ContainsFunc(p.conns, func(c *conn) bool { return !c.proven && c.Err() == nil })
	if !p.closed && !p.dialing && !unproven && len(p.conns) < p.cfg.MaxConns {
		p.dialing = true
		p.wg.Go(p.dial) // ends with the dial, at latest after DialTimeout
	}
}

// dial opens one connection and wakes those who wait for it.
func (p *Pool) dial() {
	ctx, cancel := context.WithTimeout(p.dialCtx, p.cfg.DialTimeout)
	defer cancel()
	cc, err := p.tr.NewClientConn(ctx, "https", p.cfg.Addr)
	p.mu.Lock()
	p.dialing = false
	switch {
	case err != nil:
		p.wake(all, err)
	case p.closed:
		defer cc.Close()
	default:
		p.conns = append(p.conns, &conn{ClientConn: cc})
		p.opened++
		p.wake(1, nil)
	}
	p.mu.Unlock()
	if err == nil {
		cc.SetStateHook(p.changed)
	}
}

// changed is told that a connection has room, or is gone.
func (p *Pool) changed(cc *http.ClientConn) { p.wake(max(cc.Available(), 1), nil) }

// answered notes the end of a round trip.
func (p *Pool) answered(c *conn, err error) {
	p.mu.Lock()
	fresh := !c.proven
	if fresh {
		c.proven, c.probe = err == nil, false
	}
	p.mu.Unlock()
	if fresh {
		p.wake(max(c.Available(), 1), nil)
	}
}

// all is a number of waiters beyond any.
const all = 1 << 30

// wake tells the first n waiters.
func (p *Pool) wake(n int, err error) {
	p.waitMu.Lock()
	defer p.waitMu.Unlock()
	n = min(n, len(p.waiters))
	for _, w := range p.waiters[:n] {
		w <- err
	}
	p.waiters = p.waiters[n:]
}

// unwait takes a waiter out that needs no word any more, or passes on the one it was given.
func (p *Pool) unwait(w chan error) {
	p.waitMu.Lock()
	i := slices.Index(p.waiters, w)
	if i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	}
	p.waitMu.Unlock()
	if i < 0 && <-w == nil {
		p.wake(1, nil)
	}
}

// Stats is a snapshot.
type Stats struct {
	Conns    int // open now
	Opened   int // ever
	InFlight int // streams in use
	Waiting  int // requests without a stream
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Opened: p.opened}
	p.waitMu.Lock()
	s.Waiting = len(p.waiters)
	p.waitMu.Unlock()
	for _, c := range p.conns {
		if c.Err() == nil {
			s.Conns++
			s.InFlight += c.InFlight()
		}
	}
	return s
}

// Close ends all connections, interrupts their requests, and returns when a dial under way has ended.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = nil
	p.wake(all, ErrClosed)
	p.mu.Unlock()
	p.cancel()
	for _, c := range conns {
		c.Close()
	}
	p.wg.Wait()
}
