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
	known := n.knownAddr(in)
	whole, out := n.parts.Part(now, in.from, known, &in.p)
	n.count.parts[out].Add(1)
	switch out {
	case wire.Early, wire.Stray:
		if !n.limiter.allow(in.from.Addr(), now) {
			n.count.drop(dropRate)
		}
		n.sweepParts(now)
	case wire.Complete:
		n.process(f, in.with(whole), now)
	}
}

// knownAddr reports whether parts may wait for their header: only if we asked that address for something.
func (n *Node) knownAddr(in *inbound) bool {
	return n.requests[requestKey{in.from, in.p.TID}] != nil
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
