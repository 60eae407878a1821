package dhtnode

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// maxSends is how often a request is sent before its node counts as dead (docs/protocols/opendht.md §8).
const maxSends = 3

// partsTimeout is how long an answer in parts may take once its header is here.
const partsTimeout = 10 * time.Second

// retryAfter returns how long to wait after the n-th send: 1.0–1.25 s, 2.0–2.75 s, 4.0–5.75 s.
func retryAfter(n int) time.Duration {
	switch n {
	case 1:
		return time.Second + rand.N(250*time.Millisecond)
	case 2:
		return 2*time.Second + rand.N(750*time.Millisecond)
	}
	return 4*time.Second + rand.N(1750*time.Millisecond)
}

// requestKey is what a reply is matched by (§3.5, §19.3 requirement 23).
type requestKey struct {
	addr netip.AddrPort
	tid  uint32
}

// request is one of ours that waits for its answer.
type request struct {
	key    requestKey
	n      *Node
	fam    *family
	node   *routing.Node // nil while the id at the address is unknown; held
	kind   wire.Kind
	header []byte   // encoded, for sending again
	values [][]byte // sent in parts behind the header; usually none
	sends  int
	sentAt time.Time
	timer  timer
	done   func(answer, time.Time) // called once; may be nil
	late   func(time.Time)         // called when the first send went unanswered; may be nil
}

// answer is what became of a request.
type answer struct {
	p    *wire.Packet  // the reply, only valid during the call; nil if there is none
	node *routing.Node // who answered; nil if nobody
	code int           // of an error reply; 0 otherwise
	rtt  time.Duration
}

func (a answer) ok() bool { return a.p != nil && a.code == 0 }

// request sends p to node and calls done with what becomes of it. p is only used during the call.
func (n *Node) request(f *family, node *routing.Node, p *wire.Packet, now time.Time, done func(answer, time.Time)) *request {
	p.TID = node.NextTID()
	return n.start(n.open(f, node.Addr, p, now, done), node, now)
}

// requestValues is request for a message that carries values, in parts behind it if they are large.
func (n *Node) requestValues(f *family, node *routing.Node, p *wire.Packet, values [][]byte, now time.Time, done func(answer, time.Time)) *request {
	fragmented := p.SetValues(values)
	p.TID = node.NextTID()
	r := n.open(f, node.Addr, p, now, done)
	if fragmented {
		r.values = values
	}
	return n.start(r, node, now)
}

func (n *Node) start(r *request, node *routing.Node, now time.Time) *request {
	r.node = node
	node.Hold()
	node.Pending++
	r.transmit(now)
	return r
}

// requestAddr is request for an address whose node id is unknown.
func (n *Node) requestAddr(f *family, addr netip.AddrPort, p *wire.Packet, now time.Time, done func(answer, time.Time)) *request {
	p.TID = rand.Uint32() | 1
	r := n.open(f, addr, p, now, done)
	r.transmit(now)
	return r
}

func (n *Node) open(f *family, addr netip.AddrPort, p *wire.Packet, now time.Time, done func(answer, time.Time)) *request {
	p.ID, p.Network, p.Client = n.self, n.cfg.Network, n.cfg.Client
	r := &request{key: requestKey{addr, p.TID}, n: n, fam: f, kind: p.Kind, done: done, sentAt: now}
	r.timer.fire = r.timeout
	r.header = p.Append(nil)
	n.requests[r.key] = r
	return r
}

// transmit sends the request once more.
func (r *request) transmit(now time.Time) {
	n := r.n
	r.sends++
	d := dest{addr: r.key.addr, conn: r.fam.conn}
	n.count.out[r.kind].Add(1)
	n.sendRaw(d, r.header)
	n.sendParts(d, r.key.tid, r.values)
	n.agenda.set(&r.timer, now.Add(retryAfter(r.sends)))
}

func (r *request) timeout(now time.Time) {
	if r.sends < maxSends {
		if r.sends == 1 {
			r.overdue(now)
		}
		r.transmit(now)
		return
	}
	r.n.count.timeouts.Add(1)
	node := r.node
	r.finish(answer{}, now)
	if node != nil {
		r.n.expire(r.fam, node, now)
	}
}

// overdue notes that the first send went unanswered.
func (r *request) overdue(now time.Time) {
	if r.node != nil {
		r.node.Late = true
	}
	if r.late != nil {
		r.late(now)
	}
}

// finish takes r off the books and tells its owner. A request may be finished only once; later calls do nothing.
func (r *request) finish(a answer, now time.Time) {
	if r.n.requests[r.key] != r {
		return
	}
	delete(r.n.requests, r.key)
	r.n.agenda.stop(&r.timer)
	if r.node != nil {
		r.node.Pending--
		defer r.node.Release()
	}
	if r.done != nil {
		a.rtt = now.Sub(r.sentAt)
		r.done(a, now)
	}
}

// expire marks a node dead and fails what it still owes us (§9.1).
func (n *Node) expire(f *family, node *routing.Node, now time.Time) {
	node.Expire()
	if node.Pending == 0 {
		return
	}
	for _, r := range n.requestsOf(func(r *request) bool { return r.node == node }) {
		r.finish(answer{}, now)
	}
}

func (n *Node) requestsOf(match func(*request) bool) (found []*request) {
	for _, r := range n.requests {
		if match(r) {
			found = append(found, r)
		}
	}
	return found
}

// unreachable expires the nodes at addresses the system has no way to.
func (n *Node) unreachable(addrs []netip.AddrPort, now time.Time) {
	for _, a := range addrs {
		for _, r := range n.requestsOf(func(r *request) bool { return r.key.addr == a }) {
			node := r.node
			r.finish(answer{}, now)
			if node != nil {
				n.expire(r.fam, node, now)
			}
		}
	}
}

// ping asks node whether it lives.
func (n *Node) ping(f *family, node *routing.Node, now time.Time) {
	n.request(f, node, &wire.Packet{Kind: wire.Ping}, now, nil)
}

func (n *Node) pingAll(f *family, nodes []*routing.Node, now time.Time) {
	for _, node := range nodes {
		if node.Pending == 0 {
			n.ping(f, node, now)
		}
	}
}

// find asks node for those nearest to target; done may be nil. Nodes in the answer are learnt in any case.
func (n *Node) find(f *family, node *routing.Node, target dht.InfoHash, want wire.Want, now time.Time, done func(answer, time.Time)) *request {
	p := &wire.Packet{Kind: wire.Find, InfoHash: target, Want: want}
	return n.request(f, node, p, now, func(a answer, now time.Time) {
		if a.ok() {
			n.learn(a, now)
		}
		if done != nil {
			done(a, now)
		}
	})
}

// want is what we ask for with `w`: both families when we run both, otherwise nothing (§3.1).
func (n *Node) want() wire.Want {
	if n.fam[inet4] != nil && n.fam[inet6] != nil {
		return wire.Want4 | wire.Want6
	}
	return 0
}

// extend gives an answer that is on its way in parts the time of a whole message (§4.2).
func (r *request) extend(now time.Time) {
	r.n.agenda.set(&r.timer, now.Add(partsTimeout))
}
