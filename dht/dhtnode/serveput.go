package dhtnode

import (
	"context"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// storeSpan is how many of the closest nodes we must be among to store for others (docs/protocols/opendht.md §3.2).
const storeSpan = 14

// maxChecks bounds the puts that wait for a signature check; more are dropped and come again (§19.3 requirement 26).
const maxChecks = 1024

// check is a put whose signatures must be verified before it is stored.
type check struct {
	in     *inbound // without its packet's bytes: header fields only
	key    dht.InfoHash
	values []*dht.Value
	create time.Time
	ok     []bool // filled by the pool
}

func (n *Node) servePut(f *family, in *inbound, node *routing.Node, now time.Time) {
	key := in.p.InfoHash
	if key.IsZero() {
		n.refuse(in, wire.CodeNonAuthoritative, wire.TextPutNoHash)
		return
	}
	if !n.authorised(in, node, now) {
		n.refuse(in, wire.CodeUnauthorized, wire.TextPutToken)
		return
	}
	values := parseValues(in.p.Values)
	if !n.closeEnough(f, key, now) {
		for _, v := range values {
			n.acknowledge(in, v.ID)
		}
		return
	}
	created := createdAt(&in.p, now)
	if n.mustVerify(key, values) {
		n.queueCheck(in, key, values, created)
		return
	}
	n.storeAll(in, key, values, nil, created, now)
}

// parseValues reads the values of a message; those that do not parse are skipped (§2).
func parseValues(refs []wire.ValueRef) (values []*dht.Value) {
	for _, ref := range refs {
		if ref.Raw == nil {
			continue
		}
		if v, _, err := dht.ParseValue(ref.Raw); err == nil {
			values = append(values, v)
		}
	}
	return values
}

// createdAt is the creation time a put claims, never in the future (§3.7).
func createdAt(p *wire.Packet, now time.Time) time.Time {
	if !p.HasCreated || p.Created >= now.Unix() {
		return now
	}
	// In the monotonic clock's terms, so that a step of the wall clock does not end lives.
	age := now.Unix() - max(p.Created, 0)
	return now.Add(-time.Duration(age) * time.Second)
}

// closeEnough: with 8 good nodes known, only what is near us is stored.
func (n *Node) closeEnough(f *family, key dht.InfoHash, now time.Time) bool {
	closest := n.closestTo(f, key, storeSpan, now)
	c := len(closest)
	return c < routing.K || !routing.Closer(closest[c-1].ID, n.self, key)
}

// mustVerify reports whether a signature decides about one of values: signed, and not what we hold already.
func (n *Node) mustVerify(key dht.InfoHash, values []*dht.Value) bool {
	for _, v := range values {
		if !v.IsSigned() {
			continue
		}
		if held, ok := n.held(key, v.ID); !ok || !held.Equal(v) {
			return true
		}
	}
	return false
}

func (n *Node) held(key dht.InfoHash, id dht.ValueID) (*dht.Value, bool) {
	sv, ok := n.store.Get(key, id)
	if !ok {
		return nil, false
	}
	v, _, err := dht.ParseValue(sv.Raw)
	return v, err == nil
}

// queueCheck hands a put to the pool.
func (n *Node) queueCheck(in *inbound, key dht.InfoHash, values []*dht.Value, created time.Time) {
	kept := &inbound{from: in.from, dest: in.dest}
	kept.p.TID = in.p.TID
	select {
	case n.checks <- check{in: kept, key: key, values: values, create: created}:
	default:
		n.count.drop(dropBusy)
	}
}

// verifyLoop is one worker of the pool.
func (n *Node) verifyLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-n.checks:
			c.ok = make([]bool, len(c.values))
			for i, v := range c.values {
				c.ok[i] = v.IsSigned() && v.Verify() == nil
			}
			n.turn(func(now time.Time) { n.storeAll(c.in, c.key, c.values, c.ok, c.create, now) })
		}
	}
}

// storeAll stores the values of a put and acknowledges each, stored or not (§3.2).
func (n *Node) storeAll(in *inbound, key dht.InfoHash, values []*dht.Value, verified []bool, created, now time.Time) {
	for i, v := range values {
		if v.ID == 0 {
			n.refuse(in, wire.CodeNonAuthoritative, wire.TextPutInvalidID)
			return
		}
		n.verified = nil
		if verified != nil && verified[i] {
			n.verified = v
		}
		n.storeValue(key, v, created, in.from, now)
		n.acknowledge(in, v.ID)
	}
}

func (n *Node) acknowledge(in *inbound, id dht.ValueID) {
	p := n.reply(in)
	p.HasValueID, p.ValueID = true, id
	n.send(in.dest, p)
}

// verifier is what the types' policies ask about signatures: what the pool found for the value being stored.
func (n *Node) verifier(v *dht.Value) error {
	if v != nil && n.verified == v {
		return nil
	}
	return dht.ErrBadSignature
}

// storeValue applies the rules of §12.2 to one value and tells listeners. from is the zero AddrPort for our own.
func (n *Node) storeValue(key dht.InfoHash, v *dht.Value, created time.Time, from netip.AddrPort, now time.Time) bool {
	t := n.types.Get(v.Type)
	var err error
	if held, ok := n.held(key, v.ID); ok {
		if held.Equal(v) {
			n.store.Refresh(key, v.ID, t.Lifetime, now)
			n.count.refreshed.Add(1)
			n.pushRefreshed(key, v.ID, now)
			return true
		}
		v, err = t.Edit(key, held, v, from)
	} else {
		v, err = t.Store(key, v, from)
	}
	if err != nil {
		n.count.refused.Add(1)
		return false
	}
	// Nobody hands on what is over: a clock is wrong, maybe ours. Upstream stores nothing then, so that a node whose clock is ten
	// minutes ahead keeps nothing for any client: they all tell the creation time. One who leaves it out is given as much.
	if !created.Add(t.Lifetime).After(now) {
		created = now
	}
	n.encoded = v.Append(n.encoded[:0])
	sv := storage.Value{Raw: n.encoded, ID: v.ID, Type: v.Type, Created: created, Source: from.Addr()}
	return n.insert(key, v, sv, t.Lifetime, now)
}

// insert puts a value that passed its policy into storage.
func (n *Node) insert(key dht.InfoHash, v *dht.Value, sv storage.Value, lifetime time.Duration, now time.Time) bool {
	ok, gone := n.store.Set(key, sv, lifetime, now, n.gone[:0])
	n.pushGone(gone, now)
	n.gone = gone[:0]
	if !ok {
		n.count.refused.Add(1)
		return false
	}
	n.count.stored.Add(1)
	n.pushValue(key, v, sv.Raw, now)
	n.scheduleExpiry()
	return true
}

// serveRefresh gives a value a new life. Unlike upstream it says 404 for an unknown value id too, so that the owner puts
// it again (§12.3).
func (n *Node) serveRefresh(in *inbound, node *routing.Node, now time.Time) {
	key, id := in.p.InfoHash, in.p.ValueID
	if !n.authorised(in, node, now) {
		n.refuse(in, wire.CodeUnauthorized, wire.TextPutToken)
		return
	}
	sv, ok := n.store.Get(key, id)
	if !ok || !n.store.Refresh(key, id, n.types.Lifetime(sv.Type), now) {
		n.refuse(in, wire.CodeNotFound, wire.TextUnknownStorage)
		return
	}
	n.count.refreshed.Add(1)
	n.pushRefreshed(key, id, now)
	n.acknowledge(in, id)
}
