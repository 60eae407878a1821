package dhtnode

import (
	"time"

	"github.com/jirani/jirani/dht/wire"
)

// incomplete takes the header of a message whose values follow in parts and reports whether it has to wait for them.
// Only what we would process in the end is put together (docs/protocols/opendht.md §4.2, §19.2 requirement 5).
func (n *Node) incomplete(f *family, in *inbound, now time.Time) bool {
	if !announces(&in.p) {
		return false
	}
	switch in.p.Kind {
	case wire.Reply:
		if n.requests[requestKey{in.from, in.p.TID}] == nil {
			return false
		}
	case wire.Put:
		if in.p.InfoHash.IsZero() || !n.tokens.valid(in.p.Token, in.from) {
			return false // refused at once
		}
	case wire.Update:
		if n.sockets[requestKey{in.from, in.p.SocketID}] == nil {
			return false // answered and forgotten
		}
	default:
		return false
	}
	whole, out := n.parts.Header(now, in.from, &in.p)
	n.count.parts[out].Add(1)
	switch out {
	case wire.Whole:
		return false
	case wire.Complete:
		n.process(f, in.with(whole), now)
	case wire.Waiting:
		n.sweepParts(now)
		if r := n.requests[requestKey{in.from, in.p.TID}]; r != nil && in.p.Kind == wire.Reply {
			r.extend(now) // the answer has begun: do not ask again
		}
	}
	return true
}

func announces(p *wire.Packet) bool {
	for i := range p.Values {
		if p.Values[i].Raw == nil {
			return true
		}
	}
	return false
}

func (in *inbound) with(p *wire.Packet) *inbound {
	return &inbound{p: *p, from: in.from, dest: in.dest}
}

// receivePart takes a piece of a value.
func (n *Node) receivePart(f *family, in *inbound, now time.Time) {
	if !n.parts.Begun(now, in.from, in.p.TID) && !n.limiter.allow(in.from.Addr(), now) {
		n.count.drop(dropRate)
		return
	}
	whole, out := n.parts.Part(now, in.from, n.mayPrecede(f, in, now), &in.p)
	n.count.parts[out].Add(1)
	switch out {
	case wire.Early:
		n.sweepParts(now)
	case wire.Complete:
		n.process(f, in.with(whole), now)
	}
}

// mayPrecede reports whether parts may wait for their header, which the network can deliver late: if they belong to an
// answer to us, or come from an address that has shown to receive what we send there. Others would fill our memory under
// forged addresses (§4.2).
func (n *Node) mayPrecede(f *family, in *inbound, now time.Time) bool {
	if n.requests[requestKey{in.from, in.p.TID}] != nil {
		return true
	}
	node := f.cache.At(in.from)
	return node != nil && (node.Good(now) || proved(node, now))
}

// sweepParts makes sure that sets which never complete are dropped in time.
func (n *Node) sweepParts(now time.Time) {
	n.agenda.setEarlier(&n.sweepTimer, now.Add(time.Second))
}

func (n *Node) partsDue(now time.Time) {
	n.parts.Sweep(now)
	if sets, _ := n.parts.Usage(); sets > 0 {
		n.agenda.set(&n.sweepTimer, now.Add(time.Second))
	}
}
