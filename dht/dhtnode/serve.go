package dhtnode

import (
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// provedFor is how long an address that showed it receives is trusted with large answers.
const provedFor = 10 * time.Minute

// serve answers a request (docs/protocols/opendht.md §3.2). node is the sender's record, nil when another good node holds
// its id.
func (n *Node) serve(f *family, in *inbound, node *routing.Node, now time.Time) {
	switch in.p.Kind {
	case wire.Ping:
		n.send(in.dest, n.reply(in))
	case wire.Find:
		n.send(in.dest, n.nodesReply(in, now))
	case wire.Get:
		n.serveGet(f, in, node, now)
	case wire.Put:
		n.servePut(f, in, node, now)
	case wire.Refresh:
		n.serveRefresh(in, node, now)
	case wire.Listen:
		n.serveListen(f, in, node, now)
	case wire.Update:
		n.serveUpdate(f, in, node, now)
	}
}

// reply starts an answer to in. There is one such packet per node; it is used up by the next call.
func (n *Node) reply(in *inbound) *wire.Packet {
	p := &n.answer
	p.Reset()
	p.Kind, p.TID, p.ID = wire.Reply, in.p.TID, n.self
	p.Network, p.Client = n.cfg.Network, n.cfg.Client
	p.PublicAddr = in.from.Addr()
	return p
}

// nodesReply is an answer with the nodes closest to the place asked for and a token: without the token the asker would
// blacklist us (§13.2).
func (n *Node) nodesReply(in *inbound, now time.Time) *wire.Packet {
	p := n.reply(in)
	want := in.p.Want
	if want == 0 {
		want = wire.Want4 << familyOf(in.from.Addr())
	}
	if f := n.fam[inet4]; f != nil && want&wire.Want4 != 0 {
		n.nodes4 = n.appendClosest(n.nodes4[:0], f, in.p.InfoHash, now)
		p.Nodes4 = n.nodes4
	}
	if f := n.fam[inet6]; f != nil && want&wire.Want6 != 0 {
		n.nodes6 = n.appendClosest(n.nodes6[:0], f, in.p.InfoHash, now)
		p.Nodes6 = n.nodes6
	}
	p.Token = n.tokens.issue(in.from)
	return p
}

// closestTo returns the good nodes nearest to target, and asks those not heard for a while whether they still live. Upstream counts the dead
// as good for ten minutes unless it happens to have asked them something. Where nodes come and go, a server that only answers would send
// newcomers to the dead, and refuse values because of them. The slice is reused by the next call.
func (n *Node) closestTo(f *family, target dht.InfoHash, count int, now time.Time) []*routing.Node {
	n.closest = f.table.Closest(n.closest[:0], target, count, now)
	for _, node := range n.closest {
		if node.Quiet(now) {
			n.ping(f, node, now)
		}
	}
	return n.closest
}

func (n *Node) appendClosest(dst []byte, f *family, target dht.InfoHash, now time.Time) []byte {
	for _, node := range n.closestTo(f, target, routing.K, now) {
		dst = dht.NodeAddr{ID: node.ID, Addr: node.Addr}.Append(dst)
	}
	return dst
}

// refuse answers with an error. It carries our id, or the requester would not see it (§3.3).
func (n *Node) refuse(in *inbound, code int, text string) {
	p := &n.answer
	p.Reset()
	p.Kind, p.TID, p.ID = wire.Error, in.p.TID, n.self
	p.Network, p.Client = n.cfg.Network, n.cfg.Client
	p.Code, p.Text = code, append(n.text[:0], text...)
	n.text = p.Text[:0]
	n.count.errorOut(code)
	n.send(in.dest, p)
}

// send puts p into the turn's outbox.
func (n *Node) send(d dest, p *wire.Packet) {
	start := len(n.out.buf)
	n.out.buf = p.Append(n.out.buf)
	n.out.add(start, d)
	n.count.out[p.Kind].Add(1)
}

func (n *Node) sendRaw(d dest, b []byte) {
	start := len(n.out.buf)
	n.out.buf = append(n.out.buf, b...)
	n.out.add(start, d)
}

// authorised checks the write token of a request. A good one also proves the sender's address.
func (n *Node) authorised(in *inbound, node *routing.Node, now time.Time) bool {
	if !n.tokens.valid(in.p.Token, in.from) {
		return false
	}
	if node != nil {
		node.Proved = now
	}
	return true
}

func proved(node *routing.Node, now time.Time) bool {
	return node != nil && !node.Proved.IsZero() && now.Sub(node.Proved) <= provedFor
}
