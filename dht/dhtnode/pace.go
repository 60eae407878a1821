package dhtnode

import (
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht/wire"
)

// Pace of parts to one address (docs/protocols/opendht.md §4.1). The largest value, 52 parts, leaves at once; a default receive
// buffer of Linux holds some 90 such datagrams. Answers to several gets at once go on at 64 in 10 ms, about 65 Mbit/s.
const (
	burstParts   = 64
	burstEvery   = 10 * time.Millisecond
	maxPacedTo   = 4 << 20  // bytes that wait for one address
	maxPaced     = 32 << 20 // … and for all
	pacedPartMax = wire.PieceSize + 64
)

// pacer holds back parts that would overflow their receiver. It has an entry only for addresses that were sent parts in the
// last moments. Owned by the node's lock.
type pacer struct {
	to    map[netip.AddrPort]*burst
	bytes int
	timer timer
}

// burst is what one address may still be sent before the next moment, and what waits.
type burst struct {
	left  int
	bytes int
	queue []pacedPart
}

type pacedPart struct {
	dest dest
	b    []byte
}

// sendParts sends values in pieces behind the header with transaction tid (§4.1). What exceeds a burst follows in time; what
// exceeds the room for that is dropped and counted: the receiver misses it and asks again.
func (n *Node) sendParts(d dest, tid uint32, values [][]byte) {
	if len(values) == 0 {
		return
	}
	to := n.pace.to[d.addr]
	if to == nil {
		to = &burst{left: burstParts}
		n.pace.to[d.addr] = to
		n.agenda.setEarlier(&n.pace.timer, n.now.Add(burstEvery))
	}
	head := wire.Packet{Kind: wire.Part, TID: tid, Network: n.cfg.Network, Client: n.cfg.Client}
	for piece := range wire.EachPart(values) {
		switch {
		case to.left > 0:
			to.left--
			start := len(n.out.buf)
			n.out.buf = head.AppendPart(n.out.buf, piece)
			n.out.add(start, d)
			n.count.out[wire.Part].Add(1)
		case to.bytes >= maxPacedTo || n.pace.bytes >= maxPaced:
			n.count.drop(dropUnsent)
			return
		default:
			b := head.AppendPart(make([]byte, 0, pacedPartMax), piece)
			to.queue = append(to.queue, pacedPart{d, b})
			to.bytes += len(b)
			n.pace.bytes += len(b)
		}
	}
}

// paceDue sends the next burst to everybody who waits for one.
func (n *Node) paceDue(now time.Time) {
	for addr, to := range n.pace.to {
		if len(to.queue) == 0 {
			delete(n.pace.to, addr)
			continue
		}
		k := min(len(to.queue), burstParts)
		for _, p := range to.queue[:k] {
			n.sendRaw(p.dest, p.b)
			n.count.out[wire.Part].Add(1)
			to.bytes -= len(p.b)
			n.pace.bytes -= len(p.b)
		}
		clear(to.queue[:k])
		to.queue, to.left = to.queue[k:], burstParts-k
	}
	if len(n.pace.to) > 0 {
		n.agenda.set(&n.pace.timer, now.Add(burstEvery))
	}
}
