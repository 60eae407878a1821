package dhtnode

import (
	"bytes"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

func (n *Node) serveListen(f *family, in *inbound, node *routing.Node, now time.Time) {
	key := in.p.InfoHash
	switch {
	case key.IsZero():
		n.refuse(in, wire.CodeNonAuthoritative, wire.TextListenNoHash)
		return
	case !n.authorised(in, node, now):
		n.refuse(in, wire.CodeUnauthorized, wire.TextListenToken)
		return
	}
	l := storage.Listener{Node: in.p.ID, Addr: in.from, Socket: in.p.SocketID, Version: int(in.p.Version)}
	if in.p.HasQuery && len(in.p.Query.Where) > 0 {
		q := in.p.Query.Clone()
		l.Query = &q
	}
	isNew, ok := n.store.Listen(key, l, now)
	if !ok {
		// Silence: the listener turns to another node.
		n.count.drop(dropListeners)
		return
	}
	if isNew {
		n.pushStored(key, l, now)
	}
	p := n.reply(in)
	p.Token = n.tokens.issue(in.from)
	n.send(in.dest, p)
}

// pushStored sends a new listener what is there already, before the answer to its listen (§11.2).
func (n *Node) pushStored(key dht.InfoHash, l storage.Listener, now time.Time) {
	var q dht.Query
	if l.Query != nil {
		q = *l.Query
	}
	values := n.matching(key, q, now)
	if len(values) == 0 {
		return
	}
	if l.Version == 0 {
		n.pushLegacy(key, l, values, now)
		return
	}
	for group := range wire.GroupUpdates(slices.Clone(values)) {
		n.update(key, l, &wire.Packet{InfoHash: key, Version: wire.ListenVersion}, group, now)
	}
}

// pushValue tells listeners of a new or edited value (§11.3), one message per value, and local ones.
func (n *Node) pushValue(key dht.InfoHash, v *dht.Value, raw []byte, now time.Time) {
	n.localStored(key, v, now)
	for _, l := range n.listenersOf(key) {
		if l.Query != nil && !l.Query.Match(v) {
			continue
		}
		values := [][]byte{raw}
		if l.Version == 0 {
			n.pushLegacy(key, l, values, now)
			continue
		}
		n.update(key, l, &wire.Packet{InfoHash: key, Version: wire.ListenVersion}, values, now)
	}
}

// pushRefreshed tells all listeners, whatever their filter (§11.3).
func (n *Node) pushRefreshed(key dht.InfoHash, id dht.ValueID, now time.Time) {
	for _, l := range n.listenersOf(key) {
		n.news(key, l, &wire.Packet{Refreshed: []dht.ValueID{id}}, now)
	}
}

// pushGone tells listeners of values that expired or were evicted, those at one key in one message.
func (n *Node) pushGone(gone []storage.Gone, now time.Time) {
	for len(gone) > 0 {
		key := gone[0].Key
		k := 0
		for k < len(gone) && gone[k].Key == key {
			k++
		}
		ids := make([]dht.ValueID, k)
		for i, g := range gone[:k] {
			ids[i] = g.ID
		}
		gone = gone[k:]
		n.count.expired.Add(uint64(k))
		n.localGone(key, ids, now)
		for _, l := range n.listenersOf(key) {
			n.news(key, l, &wire.Packet{Expired: ids}, now)
		}
	}
}

// listenersOf copies the listeners of key, which pushing may change.
func (n *Node) listenersOf(key dht.InfoHash) []storage.Listener {
	return append([]storage.Listener(nil), n.store.Listeners(key)...)
}

// news sends refreshed or expired ids.
func (n *Node) news(key dht.InfoHash, l storage.Listener, p *wire.Packet, now time.Time) {
	if l.Version == 0 {
		p.Kind, p.TID, p.ID, p.Network = wire.Push, l.Socket, n.self, n.cfg.Network
		p.Token = n.tokens.issue(l.Addr)
		n.send(n.destOf(l), p)
		return
	}
	n.update(key, l, p, nil, now)
}

// update sends an update request; a listener that leaves it unanswered is forgotten, it comes back with its renewal.
func (n *Node) update(key dht.InfoHash, l storage.Listener, p *wire.Packet, values [][]byte, now time.Time) {
	f := n.fam[familyOf(l.Addr.Addr())]
	node := f.cache.Get(l.Node, l.Addr, false, now)
	if node.Addr != l.Addr {
		return
	}
	p.Kind, p.SocketID = wire.Update, l.Socket
	p.Token = bytes.Clone(n.tokens.issue(l.Addr))
	n.count.pushes.Add(1)
	if wire.Fragmented(values) { // kept for sending again, while the storage's memory may change
		values = cloneAll(values)
	}
	n.requestValues(f, node, p, values, now, func(a answer, now time.Time) {
		if a.p == nil {
			n.store.DropListeners(key, func(o *storage.Listener) bool {
				return o.Node == l.Node && o.Addr == l.Addr && o.Socket == l.Socket
			})
		}
	})
}

func cloneAll(values [][]byte) [][]byte {
	c := make([][]byte, len(values))
	for i, v := range values {
		c[i] = bytes.Clone(v)
	}
	return c
}

// pushLegacy sends values to a version 0 listener: as a reply whose transaction is the socket number (§11.4). Values too
// large for one datagram are left out; nobody who needs this sends them.
func (n *Node) pushLegacy(key dht.InfoHash, l storage.Listener, values [][]byte, now time.Time) {
	in := &inbound{from: l.Addr, dest: n.destOf(l)}
	in.p.TID, in.p.InfoHash = l.Socket, key
	p := n.nodesReply(in, now)
	if !p.SetValues(values) {
		n.send(in.dest, p)
	}
}

func (n *Node) destOf(l storage.Listener) dest {
	return dest{addr: l.Addr, conn: n.fam[familyOf(l.Addr.Addr())].conn}
}

// serveUpdate delivers what a node we listen on tells us (§11.1). It is answered in every case, also for a socket we
// closed, or it would come again and we would count as dead.
func (n *Node) serveUpdate(f *family, in *inbound, node *routing.Node, now time.Time) {
	if s := n.sockets[requestKey{in.from, in.p.SocketID}]; s != nil && node != nil && s.node.node == node {
		s.updated(&in.p, now)
	} else {
		n.count.drop(dropUnasked)
	}
	n.send(in.dest, n.reply(in))
}
