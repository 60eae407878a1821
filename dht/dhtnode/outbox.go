package dhtnode

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/jirani/jirani/internal/udpio"
)

// maxKeptOutbox is the largest buffer an outbox keeps for its next turn, in bytes.
const maxKeptOutbox = 4 << 20

// outbox collects the datagrams of one turn. Its owner flushes it after the turn; between turns it is empty and keeps its
// memory.
type outbox struct {
	buf   []byte
	items []outgoing
	msgs  []udpio.Message
}

type outgoing struct {
	from, to int // in buf
	conn     int // index of the socket
	local    netip.Addr
	addr     netip.AddrPort
}

// dest is where a datagram goes and by which socket and address of ours.
type dest struct {
	addr  netip.AddrPort
	conn  int
	local netip.Addr // source address to use; zero = any
}

// add takes what was appended to buf since start as one datagram to d.
func (o *outbox) add(start int, d dest) {
	o.items = append(o.items, outgoing{start, len(o.buf), d.conn, d.local, d.addr})
}

// flush sends everything. It returns the destinations the system has no way to.
func (o *outbox) flush(conns []Conn, unreachable []netip.AddrPort) []netip.AddrPort {
	for i := 0; i < len(o.items); {
		conn := o.items[i].conn
		o.msgs = o.msgs[:0]
		for ; i < len(o.items) && o.items[i].conn == conn; i++ {
			it := &o.items[i]
			o.msgs = append(o.msgs, udpio.Message{
				Buf: o.buf[it.from:it.to], N: it.to - it.from, Addr: it.addr, Local: it.local,
			})
		}
		unreachable = writeAll(conns[conn], o.msgs, unreachable)
	}
	clear(o.msgs)
	o.items = o.items[:0]
	if o.buf = o.buf[:0]; cap(o.buf) > maxKeptOutbox {
		o.buf = nil
	}
	return unreachable
}

// writeAll goes on after a datagram the system refused.
func writeAll(c Conn, ms []udpio.Message, unreachable []netip.AddrPort) []netip.AddrPort {
	for len(ms) > 0 {
		n, err := c.WriteBatch(ms)
		if err == nil || n >= len(ms) {
			break
		}
		if noRoute(err) {
			unreachable = append(unreachable, ms[n].Addr)
		}
		ms = ms[n+1:]
	}
	return unreachable
}

// noRoute reports whether err says that the destination cannot be reached from here
// (docs/protocols/opendht.md §9.1); a full buffer is not such an error.
func noRoute(err error) bool {
	for _, e := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EAFNOSUPPORT, syscall.EPIPE, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
