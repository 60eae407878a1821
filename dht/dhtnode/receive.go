package dhtnode

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// maxReadErrors in a row end a reader: the socket is broken.
const maxReadErrors = 16

// maxKept bounds how many packets' memory a reader keeps between batches; only joined datagrams make more.
const maxKept = 4 * udpio.MaxBatch

// reader reads one socket. Its memory is reused from batch to batch.
type reader struct {
	n    *Node
	conn int
	msgs []udpio.Message
	room []byte     // of msgs
	in   []*inbound // in[:used] hold the running batch
	used int
	out  outbox
	turn func(time.Time)
}

// inbound is one datagram that was parsed.
type inbound struct {
	p    wire.Packet
	from netip.AddrPort
	dest dest // where an answer goes
}

func newReader(n *Node, conn int) *reader {
	r := &reader{n: n, conn: conn, msgs: make([]udpio.Message, udpio.MaxBatch)}
	r.room = newRoom(len(r.msgs) * udpio.MaxDatagram)
	for i := range r.msgs {
		r.msgs[i].Buf = r.room[i*udpio.MaxDatagram:][:udpio.MaxDatagram:udpio.MaxDatagram]
	}
	r.turn = r.handle
	return r
}

// read handles what arrives at one socket until ctx is done.
func (n *Node) read(ctx context.Context, conn int) error {
	r := newReader(n, conn)
	defer freeRoom(r.room)
	for failed := 0; ; {
		k, err := n.conns[conn].ReadBatch(r.msgs)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if failed++; failed >= maxReadErrors || errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		failed = 0
		r.batch(r.msgs[:k])
	}
}

// batch parses datagrams and handles them in one turn.
func (r *reader) batch(ms []udpio.Message) {
	r.used = 0
	for i := range ms {
		m := &ms[i]
		if m.Truncated {
			r.n.count.drop(dropMalformed)
			continue
		}
		for b := range m.Segments {
			r.parse(b, m)
		}
	}
	if r.used == 0 {
		return
	}
	r.n.turnWith(&r.out, r.turn)
	r.n.flush(&r.out)
	if len(r.in) > maxKept {
		clear(r.in[maxKept:])
		r.in = r.in[:maxKept]
	}
}

// parse does what needs no lock: address filters and the codec (§13.4).
func (r *reader) parse(b []byte, m *udpio.Message) {
	if !r.n.allowed(m.Addr) {
		r.n.count.drop(dropFiltered)
		return
	}
	if r.used == len(r.in) {
		r.in = append(r.in, new(inbound))
	}
	in := r.in[r.used]
	if err := in.p.Parse(b); err != nil {
		if errors.Is(err, wire.ErrUnknown) {
			r.n.count.drop(dropUnknown)
		} else {
			r.n.count.drop(dropMalformed)
		}
		return
	}
	if in.p.Network != r.n.cfg.Network {
		r.n.count.drop(dropNetwork)
		return
	}
	in.from = m.Addr
	in.dest = dest{addr: m.Addr, conn: r.conn, local: m.Local}
	r.used++
}

// allowed applies the filters that never change.
func (n *Node) allowed(from netip.AddrPort) bool {
	if martian(from) {
		return false
	}
	if len(n.cfg.Allow) == 0 {
		return true
	}
	for _, p := range n.cfg.Allow {
		if p.Contains(from.Addr().WithZone("")) {
			return true
		}
	}
	return false
}

func (r *reader) handle(now time.Time) {
	for _, in := range r.in[:r.used] {
		r.n.receive(in, now)
	}
}

// receive handles one packet: blacklist, parts, own id, rate limit, then by kind (§13.4).
func (n *Node) receive(in *inbound, now time.Time) {
	f := n.fam[familyOf(in.from.Addr())]
	if f == nil || n.black.has(in.from, now) {
		n.count.drop(dropFiltered)
		return
	}
	n.count.in[in.p.Kind].Add(1)
	if in.p.Kind == wire.Part {
		n.receivePart(f, in, now)
		return
	}
	if in.p.ID == n.self || in.p.ID.IsZero() {
		n.count.drop(dropID)
		return
	}
	counted := in.p.Kind.IsRequest() || in.p.Kind == wire.Push
	if counted && !n.limiter.allow(in.from.Addr(), now) {
		n.count.drop(dropRate)
		return
	}
	if n.incomplete(f, in, now) {
		return
	}
	n.process(f, in, now)
}

// process handles a packet that is whole.
func (n *Node) process(f *family, in *inbound, now time.Time) {
	switch in.p.Kind {
	case wire.Reply, wire.Error:
		n.replied(f, in, now)
	case wire.Push:
		n.heard(f, in, now)
	default:
		n.serve(f, in, n.heard(f, in, now), now)
	}
}

// heard notes a sign of life and returns the sender's record; nil if the id belongs to a good node at another address,
// which is then asked whether it still lives there, so that the id can move if not.
func (n *Node) heard(f *family, in *inbound, now time.Time) *routing.Node {
	node := f.cache.Get(in.p.ID, in.from, in.p.Client, now)
	if node.Addr != in.from {
		if node.Pending == 0 && now.Sub(node.LastHeard) > time.Second {
			n.ping(f, node, now)
		}
		n.count.conflicts.Add(1)
		return nil
	}
	node.Heard(now)
	n.offer(f, node, routing.Talked, now)
	return node
}

// offer proposes a node to the table and to the searches it may fit.
func (n *Node) offer(f *family, node *routing.Node, c routing.Confirm, now time.Time) {
	grown := f.table.Grown()
	inserted, ping := f.table.Offer(node, c, now, n.scratchNodes[:0])
	n.pingAll(f, ping, now)
	n.scratchNodes = ping[:0]
	if inserted && c == routing.Talked && node.Pending == 0 && !node.Good(now) {
		// Upstream waits for its next step. Asking at once lets us name the newcomer to the next one who asks.
		n.ping(f, node, now)
	}
	if inserted && c > routing.Mentioned && now.Sub(grown) > grownLongAgo {
		n.agenda.setEarlier(&f.maintain, now.Add(time.Second))
	}
}

// replied matches an answer with its request (§3.5).
func (n *Node) replied(f *family, in *inbound, now time.Time) {
	r := n.requests[requestKey{in.from, in.p.TID}]
	if r == nil {
		n.count.drop(dropUnasked)
		n.heard(f, in, now)
		return
	}
	if in.p.PublicAddr.IsValid() {
		n.vote(f, in)
	}
	n.answeredAt = now
	node := f.cache.Get(in.p.ID, in.from, in.p.Client, now)
	if r.node != nil && r.node != node {
		// Another node lives there now.
		old := r.node
		r.finish(answer{}, now)
		n.expire(f, old, now)
		return
	}
	if node.Addr == in.from {
		first := node.LastReply.IsZero()
		node.Replied(now)
		n.offer(f, node, routing.Answered, now)
		if first {
			n.offerSearches(f, node, now)
		}
		n.connected(now)
	}
	n.answered(r, node, in, now)
}

func (n *Node) answered(r *request, node *routing.Node, in *inbound, now time.Time) {
	a := answer{p: &in.p, node: node}
	if in.p.Kind == wire.Error {
		a.code = max(in.p.Code, 1)
		n.count.errorIn(in.p.Code)
	}
	r.finish(a, now)
}

// learn takes the node lists of a reply (§3.6). Lists of odd length are thrown away.
func (n *Node) learn(a answer, now time.Time) []*routing.Node {
	list, err := a.p.AppendNodes(n.scratchAddrs[:0])
	n.scratchAddrs = list[:0]
	n.learnt = n.learnt[:0]
	if err != nil {
		n.count.drop(dropMalformed)
		return nil
	}
	from := a.node.Addr.Addr()
	for _, e := range list {
		if e.Addr.Addr().IsLoopback() && familyOf(e.Addr.Addr()) == familyOf(from) {
			e.Addr = netip.AddrPortFrom(from, e.Addr.Port())
		}
		f := n.fam[familyOf(e.Addr.Addr())]
		if f == nil || e.ID == n.self || e.ID.IsZero() || !n.allowed(e.Addr) || n.black.has(e.Addr, now) {
			continue
		}
		node := f.cache.Get(e.ID, e.Addr, false, now)
		if node.Addr == e.Addr {
			n.offer(f, node, routing.Mentioned, now)
			n.learnt = append(n.learnt, node)
		}
	}
	return n.learnt
}

// vote records what the sender says our address is. Votes nobody can use are ignored.
func (n *Node) vote(f *family, in *inbound) {
	claim := in.p.PublicAddr.Unmap()
	if claim.IsUnspecified() || claim.IsMulticast() || (familyOf(claim) == inet6) != f.v6 {
		return
	}
	if f.votes.add(claim, in.from.Addr()) {
		n.log.Debug("public address changed", "votes", len(f.votes.reported))
	}
}
