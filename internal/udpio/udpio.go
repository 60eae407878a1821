package udpio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxBatch is the most datagrams one system call moves: enough that its cost is spread thin, few enough that a
	// flood does not delay the first datagram's answer by more than tens of microseconds.
	MaxBatch = 64
	// MaxDatagram is the largest UDP payload there is with room to spare, in bytes; a buffer of this size is never
	// too short, with or without GRO.
	MaxDatagram = 65536
	// MaxSegments is the most datagrams one Message may hold when written (UDP_MAX_SEGMENTS of Linux before 6.9).
	MaxSegments = 64
)

// ErrWouldBlock is what TryReadBatch returns when no datagram waits. Call WaitRead.
var ErrWouldBlock = errors.New("udpio: no datagram waiting")

// Config says how a socket is opened. The zero value is a plain socket with the system's buffers.
type Config struct {
	ReusePort   bool // several sockets may bind the same address (SO_REUSEPORT); ListenGroup sets it
	V6Only      bool // an IPv6 wildcard takes no IPv4 traffic (IPV6_V6ONLY); without it [::] takes both
	PacketInfo  bool // fill and obey Message.Local
	GRO         bool // accept joined datagrams, see Message.SegmentSize; readers need MaxDatagram buffers
	ReadBuffer  int  // bytes of kernel receive buffer wanted, 0 = system default; see Conn.ReadBufferSize
	WriteBuffer int  // bytes of kernel send buffer wanted, 0 = system default
}

// Features tells what a socket can do beyond plain datagrams.
type Features struct {
	Batch      bool // more than one datagram per system call
	GRO        bool // reads may carry SegmentSize
	GSO        bool // writes with SegmentSize are cut by the kernel
	PacketInfo bool // Message.Local is filled and obeyed
	Drops      bool // Drops counts
}

// Message is one datagram, or a train of equal-sized ones of one flow.
type Message struct {
	Buf         []byte         // read: room for the payload; write: unused beyond N
	N           int            // bytes of Buf in use
	Addr        netip.AddrPort // read: source; write: destination
	Local       netip.Addr     // the address on our side, when Config.PacketInfo; zero = let the kernel choose
	SegmentSize int            // bytes per datagram when Buf[:N] holds several; 0 = one datagram
	Truncated   bool           // read: the datagram was longer than Buf and its end is lost
}

// Payload returns the bytes in use. It aliases Buf.
func (m *Message) Payload() []byte { return m.Buf[:m.N] }

// Segments calls yield with each datagram of m in order, until yield returns false. The slices alias Buf. An empty
// datagram is one segment of no bytes.
func (m *Message) Segments(yield func([]byte) bool) {
	rest := m.Buf[:m.N]
	for m.SegmentSize > 0 && len(rest) > m.SegmentSize {
		if !yield(rest[:m.SegmentSize:m.SegmentSize]) {
			return
		}
		rest = rest[m.SegmentSize:]
	}
	yield(rest)
}

// Conn is a bound UDP socket. The caller closes it.
type Conn struct {
	udp      *net.UDPConn
	raw      syscall.RawConn
	local    netip.AddrPort
	v6       bool // the descriptor is AF_INET6
	features Features

	readMu  sync.Mutex // held by the one running read
	read    readState
	writeMu sync.Mutex // held by the one running write
	write   writeState
}

// Listen opens a socket on addr. Port 0 picks a free one, see [Conn.LocalAddr].
func Listen(ctx context.Context, addr netip.AddrPort, cfg Config) (*Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error { return beforeBind(rc, cfg) }}
	pc, err := lc.ListenPacket(ctx, network(addr.Addr(), cfg), addr.String())
	if err != nil {
		return nil, fmt.Errorf("udpio: %w", err)
	}
	c, err := newConn(pc.(*net.UDPConn), cfg)
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("udpio: listen on %v: %w", addr, err)
	}
	return c, nil
}

// ListenGroup opens n sockets on one address and port. On failure none stays open. Unless cfg.ReusePort says that the address may be
// shared with others, a port that another socket of the machine holds is an error, although that socket may be willing to share: two
// servers would each get half of the packets.
func ListenGroup(ctx context.Context, addr netip.AddrPort, n int, cfg Config) ([]*Conn, error) {
	if n > 1 && !cfg.ReusePort && addr.Port() != 0 {
		alone, err := Listen(ctx, addr, cfg)
		if err != nil {
			return nil, err
		}
		alone.Close()
	}
	cfg.ReusePort = cfg.ReusePort || n > 1
	group := make([]*Conn, 0, n)
	for range n {
		c, err := Listen(ctx, addr, cfg)
		if err != nil {
			for _, open := range group {
				open.Close()
			}
			return nil, err
		}
		addr = netip.AddrPortFrom(addr.Addr(), c.local.Port())
		group = append(group, c)
	}
	return group, nil
}

// network names the address family for package net, which sets IPV6_V6ONLY for "udp6" and clears it for "udp".
func network(a netip.Addr, cfg Config) string {
	switch {
	case a.Is4() || a.Is4In6():
		return "udp4"
	case cfg.V6Only || !a.IsUnspecified():
		return "udp6"
	}
	return "udp"
}

func newConn(udp *net.UDPConn, cfg Config) (*Conn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	local := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	c := &Conn{udp: udp, raw: raw, v6: local.Addr().Is6() && !local.Addr().Is4In6()}
	c.local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if err := c.setup(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// LocalAddr returns the bound address, with the port the system chose if it was 0.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Features tells what this socket can do.
func (c *Conn) Features() Features { return c.features }

// Close closes the socket; blocked calls return an error that matches net.ErrClosed.
func (c *Conn) Close() error { return c.udp.Close() }

// SetReadDeadline bounds the waiting of reads, running ones too; after it they return os.ErrDeadlineExceeded. The zero
// time lifts it.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.udp.SetReadDeadline(t) }

// SetWriteDeadline bounds the waiting of writes for room in the send buffer.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.udp.SetWriteDeadline(t) }

// SyscallConn gives access to the descriptor for options this package does not know.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

// ReadBatch waits for a datagram and fills ms from the front with those that are there, at most MaxBatch; it returns
// how many. It sets every field of a filled Message but Buf.
func (c *Conn) ReadBatch(ms []Message) (int, error) { return c.readBatch(ms, true) }

// TryReadBatch is ReadBatch that returns ErrWouldBlock instead of waiting. With [Conn.WaitRead] it lets many idle
// sockets share few buffers.
func (c *Conn) TryReadBatch(ms []Message) (int, error) { return c.readBatch(ms, false) }

// WriteBatch sends ms in order and returns how many went out. It waits while the send buffer is full. On an error,
// ms[n] is the one the system refused (no route, too long, filtered, …); the caller may go on with ms[n+1:]. Datagrams
// of a Message whose SegmentSize this package had to cut itself may have left before its error.
func (c *Conn) WriteBatch(ms []Message) (int, error) { return c.writeBatch(ms) }

// WriteTo sends one datagram.
func (c *Conn) WriteTo(b []byte, to netip.AddrPort) error {
	return c.writeOne(Message{Buf: b, N: len(b), Addr: to})
}

// Drops returns how many datagrams the kernel threw away because this socket's receive buffer was full, 0 where it
// cannot tell.
func (c *Conn) Drops() uint64 { return c.drops() }
