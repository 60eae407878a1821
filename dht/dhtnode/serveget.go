package dhtnode

import (
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// Bounds of one answer with whole values (docs/protocols/opendht.md §19.3 requirement 30).
const (
	maxAnswerValues = 1000
	maxAnswerBytes  = 1 << 20
)

// maxFieldBytes keeps the answer to a query with a select list within one datagram.
const maxFieldBytes = 48 << 10

// maxDeferred bounds the large answers that wait for their asker to prove its address.
const maxDeferred = 1024

func (n *Node) serveGet(f *family, in *inbound, node *routing.Node, now time.Time) {
	if in.p.InfoHash.IsZero() {
		n.refuse(in, wire.CodeNonAuthoritative, wire.TextGetNoHash)
		return
	}
	p := n.nodesReply(in, now)
	if !n.store.Has(in.p.InfoHash) {
		n.send(in.dest, p)
		return
	}
	if in.p.HasQuery && len(in.p.Query.Select) > 0 {
		p.Fields = n.fields(in.p.InfoHash, in.p.Query, now)
		n.send(in.dest, p)
		return
	}
	values := n.matching(in.p.InfoHash, in.p.Query, now)
	if !p.SetValues(values) {
		n.send(in.dest, p)
		return
	}
	if !proved(node, now) {
		n.deferGet(f, in, node, now)
		return
	}
	n.send(in.dest, p)
	n.sendParts(in.dest, p.TID, values)
}

// deferGet asks the sender of a get with a large answer to prove that it receives at its address; the answer goes out
// when it does (§19.3 requirement 28).
func (n *Node) deferGet(f *family, in *inbound, node *routing.Node, now time.Time) {
	if node == nil || n.deferred >= maxDeferred {
		n.count.drop(dropUnproved)
		return
	}
	n.deferred++
	again := &inbound{from: in.from, dest: in.dest}
	again.p.Kind, again.p.TID, again.p.ID = wire.Get, in.p.TID, in.p.ID
	again.p.InfoHash, again.p.Want = in.p.InfoHash, in.p.Want
	again.p.HasQuery, again.p.Query = in.p.HasQuery, in.p.Query.Clone()
	n.request(f, node, &wire.Packet{Kind: wire.Ping}, now, func(a answer, now time.Time) {
		n.deferred--
		if a.ok() && a.node.Addr == again.from {
			n.serveGet(f, again, a.node, now)
		}
	})
}

// matching returns the serialised values at key that pass q, up to the bounds of one answer. The slice is reused by the
// next call.
func (n *Node) matching(key dht.InfoHash, q dht.Query, now time.Time) [][]byte {
	n.values = n.values[:0]
	size := 0
	n.store.Values(key, now, func(v storage.Value) bool {
		if !matches(q, v) {
			return true
		}
		if size += len(v.Raw); size > maxAnswerBytes && len(n.values) > 0 {
			return false
		}
		n.values = append(n.values, v.Raw)
		return len(n.values) < maxAnswerValues
	})
	return n.values
}

// matches applies the conditions of a query. Ids and types are known without reading the value.
func matches(q dht.Query, v storage.Value) bool {
	var whole *dht.Value
	for _, w := range q.Where {
		switch w.Field {
		case dht.FieldID:
			if dht.ValueID(w.Int) != v.ID {
				return false
			}
		case dht.FieldType:
			if w.Int != uint64(v.Type) {
				return false
			}
		default:
			if whole == nil {
				var err error
				if whole, _, err = dht.ParseValue(v.Raw); err != nil {
					return false
				}
			}
			if !w.Match(whole) {
				return false
			}
		}
	}
	return true
}

// fields encodes the selected fields of the values at key that pass q; nil if there are none.
func (n *Node) fields(key dht.InfoHash, q dht.Query, now time.Time) []byte {
	idsOnly := len(q.Select) == 1 && q.Select[0] == dht.FieldID
	var rows []*dht.Value
	size := 0
	n.store.Values(key, now, func(v storage.Value) bool {
		if !matches(q, v) {
			return true
		}
		row := &dht.Value{ID: v.ID}
		if !idsOnly {
			var err error
			if row, _, err = dht.ParseValue(v.Raw); err != nil {
				return true
			}
		}
		if size += rowSize(row); size > maxFieldBytes {
			return false
		}
		rows = append(rows, row)
		return len(rows) < wire.MaxRows
	})
	if len(rows) == 0 {
		return nil
	}
	n.fieldBuf = wire.AppendFields(n.fieldBuf[:0], q.Select, rows)
	return n.fieldBuf
}

func rowSize(v *dht.Value) int {
	size := 32 + len(v.UserType)
	if v.Owner != nil {
		size += len(v.Owner.DER())
	}
	return size
}
