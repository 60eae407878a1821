package dhtnode

import (
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

// docs/protocols/opendht.md §8: a listen is renewed after 20 s, or 290 s by nodes that are reachable anyway.
const (
	renewAfter       = 20 * time.Second
	renewAfterStable = 290 * time.Second
)

// listenState is a listen on one node: an open socket.
type listenState struct {
	w       *watch
	node    *searchNode
	socket  requestKey // where updates come from, and the number they carry
	pending bool       // a listen is in flight
	acked   bool       // the node has answered one
	renew   time.Time
	known   int // values heard of from this node
	closed  bool
}

// stepListens keeps the first nodes listened on.
func (s *search) stepListens(ready []*searchNode, now time.Time) {
	for _, w := range s.n.watches[s.key] {
		for _, sn := range ready[:min(len(ready), listenNodes)] {
			if now.Before(sn.pause) {
				continue
			}
			l := sn.listens[w]
			if l == nil {
				l = sn.openSocket(w)
			}
			if !l.pending && !now.Before(l.renew) {
				l.send(now)
			}
		}
		s.closeFarther(w, ready)
	}
}

// closeFarther ends listens on nodes that are no longer among the first, once the first are all listening.
func (s *search) closeFarther(w *watch, ready []*searchNode) {
	if len(ready) < listenNodes {
		return
	}
	for _, sn := range ready[:listenNodes] {
		if l := sn.listens[w]; l == nil || !l.acked {
			return
		}
	}
	first := ready[:listenNodes]
	for _, sn := range s.nodes {
		l := sn.listens[w]
		if l == nil || contains(first, sn) {
			continue
		}
		l.close()
		delete(sn.listens, w)
	}
}

func contains(nodes []*searchNode, sn *searchNode) bool {
	for _, o := range nodes {
		if o == sn {
			return true
		}
	}
	return false
}

// listening reports whether every node that should be is listening for w.
func (s *search) listening(w *watch) bool {
	ready, full := s.ready(s.n.now)
	if !full {
		return false
	}
	for _, sn := range ready[:min(len(ready), listenNodes)] {
		if l := sn.listens[w]; l == nil || !l.acked {
			return false
		}
	}
	return true
}

func (sn *searchNode) openSocket(w *watch) *listenState {
	l := &listenState{w: w, node: sn, socket: requestKey{sn.node.Addr, sn.node.NextTID()}}
	if sn.listens == nil {
		sn.listens = make(map[*watch]*listenState)
	}
	sn.listens[w] = l
	sn.s.n.sockets[l.socket] = l
	return l
}

// close forgets the socket; updates for it are answered and ignored from now on.
func (l *listenState) close() {
	if l.closed {
		return
	}
	l.closed = true
	delete(l.node.s.n.sockets, l.socket)
	l.w.orphan(l)
}

func (l *listenState) send(now time.Time) {
	sn := l.node
	n := sn.s.n
	q := dht.Query{Where: l.w.query.Where}
	p := &wire.Packet{Kind: wire.Listen, Version: wire.ListenVersion, InfoHash: l.w.key, Token: sn.token,
		SocketID: l.socket.tid, HasQuery: !q.IsZero(), Query: q}
	l.pending = true
	n.request(sn.s.f, sn.node, p, now, l.answered)
}

// answered books the answer to a listen (§11.1).
func (l *listenState) answered(a answer, now time.Time) {
	l.pending = false
	sn := l.node
	if l.closed {
		return
	}
	if a.ok() {
		sn.accepted()
		l.acked = true
		l.renew = now.Add(sn.s.n.renewal())
		if len(a.p.Token) > 0 {
			sn.setToken(a.p.Token)
		}
	} else {
		l.close()
		delete(sn.listens, l.w)
		if a.code == wire.CodeUnauthorized {
			sn.refused(now)
		} else if a.p != nil {
			sn.pause = now.Add(backoffMax)
		}
	}
	sn.s.mark()
}

func (n *Node) renewal() time.Duration {
	if n.cfg.PublicStable {
		return renewAfterStable
	}
	return renewAfter
}

// nextListen calls soon with the times of renewals due at the node.
func (sn *searchNode) nextListen(soon func(time.Time)) {
	for _, l := range sn.listens {
		if !l.pending {
			soon(l.renew)
		}
	}
}

// updated delivers what the node tells (§11.1).
func (l *listenState) updated(p *wire.Packet, now time.Time) {
	n := l.node.s.n
	if len(p.Token) > 0 {
		l.node.setToken(p.Token)
	}
	for _, v := range parseValues(p.Values) {
		if v.ID == 0 || !l.w.query.Match(v) {
			continue
		}
		if l.known >= maxCached {
			l.w.dropOldest(l)
		}
		l.w.add(v, l, now.Add(n.types.Lifetime(v.Type)))
	}
	for _, id := range p.Refreshed {
		if c := l.w.values[id]; c != nil {
			if _, ok := c.holders[l]; ok {
				c.holders[l] = now.Add(n.types.Lifetime(c.v.Type))
			}
		}
	}
	for _, id := range p.Expired {
		l.w.remove(id, l)
	}
}

// dropOldest lets the value of l that ends first go.
func (w *watch) dropOldest(l *listenState) {
	var oldest dht.ValueID
	var at time.Time
	for id, c := range w.values {
		if until, ok := c.holders[l]; ok && (at.IsZero() || until.Before(at)) {
			oldest, at = id, until
		}
	}
	w.remove(oldest, l)
}
