package turnserver

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
	"golang.org/x/sys/unix"
)

const (
	writeTimeout = 10 * time.Second // for a client to take what was sent to it
	frameTimeout = 30 * time.Second // for a begun message to be complete
	// maxStranger bounds one message of a client that has no allocation, in bytes. A request with credentials has some 200.
	maxStranger = 2 << 10
	// maxFrame bounds one frame: a ChannelData header, the longest datagram, padding.
	maxFrame = channelHeader + 65535 + 3
	tlsChunk = 4 << 10 // bytes read from a TLS connection at once; it keeps this much while it waits, beside what package tls keeps
)

// readBuffers lend room for one read; nothing is lent to a connection that is silent.
var readBuffers = sync.Pool{New: func() any { return new([2 * maxFrame]byte) }}

// streamConn is a client's TCP or TLS connection: STUN messages and ChannelData one after the other (RFC 8489 §6.2.2, RFC 8656 §12.5).
type streamConn struct {
	srv   *Server
	lis   *listener
	nc    net.Conn
	tuple fiveTuple
	alloc atomic.Pointer[alloc]

	raw syscall.RawConn // of a TCP connection; nil for TLS. Set before anything is read.

	writeMu sync.Mutex // held while frames are written; guards unsent
	unsent  []byte
	push    func(fd uintptr) bool

	// What follows belongs to the goroutine that reads.
	plain   *[tlsChunk]byte
	held    []byte // an unfinished frame
	buf     *[2 * maxFrame]byte
	n       int
	errno   error
	fill    func(fd uintptr) bool
	slow    bool      // a frame has been begun
	idle    time.Time // when a connection without allocation is closed
	entered bool      // counted as a connection without allocation

	boundMu sync.Mutex
	bound   *peerConn // set by handOver; guarded by boundMu
}

func (c *streamConn) realm() string        { return c.lis.realmName() }
func (c *streamConn) fiveTuple() fiveTuple { return c.tuple }
func (c *streamConn) allocation() *alloc   { return c.alloc.Load() }
func (c *streamConn) adopt(a *alloc) bool  { return c.alloc.CompareAndSwap(nil, a) }
func (c *streamConn) disown(a *alloc) {
	if c.alloc.CompareAndSwap(a, nil) {
		// Its reader may be waiting without a deadline; an expired allocation's connection has nothing left to say.
		_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.UnauthenticatedTimeout))
	}
}
func (c *streamConn) socket() *relay.Socket { return nil }
func (c *streamConn) detach(u *udpRelay)    { u.sock.Close() }

// attach: over TLS each frame gets a record of its own, since clients (coturn's, seen with 4.6.1) take a record for a message and leave
// the rest of it until the next comes.
func (c *streamConn) attach(u *udpRelay) error {
	return c.srv.pumpTo(u, c.reply, c.tuple.transport == transportTLS)
}

// pumpTo reads a relayed transport address in a goroutine of its own.
func (s *Server) pumpTo(u *udpRelay, write func([]byte), single bool) error {
	poller, err := u.sock.Pollable()
	if err != nil {
		return err
	}
	if !s.begin() {
		return context.Canceled
	}
	go func() {
		defer s.background.Done()
		u.pump(poller, write, single)
	}()
	return nil
}

// reply writes whole frames. A client that does not take them in time is cut off.
func (c *streamConn) reply(b []byte) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.unsent = b
	if c.raw == nil || c.raw.Write(c.push) != nil || len(c.unsent) > 0 {
		c.sendSlowly()
	}
	c.unsent = nil
}

func (c *streamConn) sendSlowly() {
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.nc.Write(c.unsent); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.srv.metrics.refused(refusedSlow)
		}
		c.nc.Close()
	}
	_ = c.nc.SetWriteDeadline(time.Time{})
}

// send is called with the descriptor, to write what it takes at once.
func (c *streamConn) send(fd uintptr) bool {
	c.unsent = c.unsent[relay.TrySend(fd, c.unsent):]
	return true
}

func (c *streamConn) handOver(p *peerConn) {
	c.boundMu.Lock()
	c.bound = p
	c.boundMu.Unlock()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader, if this is not its own goroutine; carrying begins without deadlines
}

func (c *streamConn) takeOver() *peerConn {
	c.boundMu.Lock()
	defer c.boundMu.Unlock()
	return c.bound
}

// serve reads frames until the connection ends, then ends its allocation; or carries data once it is bound to a peer.
func (c *streamConn) serve(ctx context.Context) {
	defer c.nc.Close()
	defer c.leaveStrangers()
	defer func() {
		if a := c.alloc.Load(); a != nil {
			a.end()
		}
	}()
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer stop()
	c.idle = time.Now().Add(c.srv.cfg.Limits.UnauthenticatedTimeout)
	_ = c.nc.SetReadDeadline(c.idle)
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		c.raw, _ = tcp.SyscallConn()
		c.fill, c.push = c.receive, c.send
	}
	for c.turn() {
	}
}

// turn reads once and handles what is complete. It reports false when the connection is done with.
func (c *streamConn) turn() bool {
	if err := c.read(); err != nil {
		if p := c.takeOver(); p != nil {
			return c.carry(p, nil)
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.srv.metrics.refused(refusedSlow)
		}
		return false
	}
	b := c.buf[:c.n]
	rest, ok := c.frames(b)
	if p := c.takeOver(); p != nil {
		early := append([]byte(nil), rest...)
		c.drop()
		return c.carry(p, early)
	}
	c.held = append([]byte(nil), rest...)
	if len(rest) == 0 {
		c.held = nil
	}
	c.drop()
	c.deadline(len(rest) > 0)
	return ok
}

// carry is the rest of a data connection's life.
func (c *streamConn) carry(p *peerConn, early []byte) bool {
	c.leaveStrangers()
	_ = c.nc.SetDeadline(time.Time{})
	p.carry(c.nc, early)
	return false
}

func (c *streamConn) drop() {
	readBuffers.Put(c.buf)
	c.buf = nil
}

// deadline sets how long the next read may take, when that has changed.
func (c *streamConn) deadline(begun bool) {
	stranger := c.alloc.Load() == nil
	switch {
	case stranger && !c.entered:
		// It has had an allocation and given it back, or is a data connection about to be bound: some more time.
		c.idle = time.Now().Add(c.srv.cfg.Limits.UnauthenticatedTimeout)
		_ = c.nc.SetReadDeadline(c.idle)
	case stranger:
	case begun && !c.slow:
		_ = c.nc.SetReadDeadline(time.Now().Add(frameTimeout))
	case !begun && (c.slow || c.entered):
		_ = c.nc.SetReadDeadline(time.Time{}) // silent as long as the allocation lives: docs/protocols/turn-usage.md §4
	}
	c.slow = begun
	if !stranger {
		c.leaveStrangers()
	}
}

// leaveStrangers stops counting the connection as one without allocation.
func (c *streamConn) leaveStrangers() {
	if c.entered {
		c.entered = false
		c.srv.strangers.Give(site(c.tuple.client.Addr()))
	}
}

// read waits for bytes and puts what was held and them into a buffer.
func (c *streamConn) read() error {
	if c.raw != nil {
		if err := c.raw.Read(c.fill); err != nil {
			return err
		}
		return c.errno
	}
	if c.plain == nil {
		c.plain = new([tlsChunk]byte)
	}
	n, err := c.nc.Read(c.plain[:])
	if n == 0 {
		return err
	}
	c.buf = readBuffers.Get().(*[2 * maxFrame]byte)
	c.n = copy(c.buf[:], c.held)
	c.n += copy(c.buf[c.n:], c.plain[:n])
	return nil
}

// receive is called when the descriptor may be readable.
func (c *streamConn) receive(fd uintptr) bool {
	c.buf = readBuffers.Get().(*[2 * maxFrame]byte)
	held := copy(c.buf[:], c.held)
	n, errno := relay.TryReceive(fd, c.buf[held:])
	c.n, c.errno = held+n, nil
	switch {
	case errno == unix.EAGAIN:
		c.drop()
		return false
	case errno != 0:
		c.errno = errno
	case n == 0:
		c.errno = net.ErrClosed
	}
	if c.errno != nil {
		c.drop()
	}
	return true
}

// frames handles every complete frame of b and returns the rest. It reports false when the client breaks the rules.
func (c *streamConn) frames(b []byte) (rest []byte, ok bool) {
	var out *relay.Out
	defer func() {
		if out != nil {
			c.srv.metrics.unsent(out.Release())
		}
	}()
	now := time.Now()
	for len(b) >= channelHeader && c.takeOver() == nil {
		size, limit := frameSize(b), maxStranger
		a := c.alloc.Load()
		if a != nil {
			limit = maxFrame
		}
		if size < 0 || size > limit {
			c.srv.metrics.refused(refusedMalformed)
			return nil, false
		}
		if len(b) < size {
			break
		}
		switch {
		case b[0]&0xC0 == 0:
			c.srv.handle(c, b[:size])
		case a != nil:
			if out == nil {
				out = relay.TakeOut()
			}
			a.channelData(out, b[:size], now)
		default:
			c.srv.metrics.dropped(dropChannel)
		}
		b = b[size:]
	}
	return b, true
}

// frameSize returns the length of the frame that begins with b, of which four bytes are there, or -1 if none begins so.
func frameSize(b []byte) int {
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch b[0] & 0xC0 {
	case 0x00:
		if n%4 != 0 {
			return -1
		}
		return 20 + n
	case 0x40:
		return channelHeader + (n+3)&^3 // padded on streams: RFC 8656 §12.5
	}
	return -1
}

// handshake completes TLS within the time a stranger has.
func (c *streamConn) handshake(ctx context.Context, timeout time.Duration) error {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return t.HandshakeContext(ctx)
}
