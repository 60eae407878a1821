package dhtnode

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// refreshAhead is how long before the end of its life a permanent value is refreshed (docs/protocols/opendht.md §8).
const refreshAhead = 10 * time.Second

// put is a value being announced. Owned by the node's lock.
type put struct {
	n         *Node
	key       dht.InfoHash
	v         *dht.Value
	raw       []byte
	created   time.Time
	lifetime  time.Duration
	permanent bool
	pending   map[*family]bool // families that have not stored it everywhere yet
	acked     int              // nodes that acknowledged it
	waiters   []chan error     // those told when pending is empty; each has room for one
	ended     func(acked int)  // called once when the announcement ends for whatever reason; may be nil
}

// putState is how far a put is with one node.
type putState struct {
	inFlight bool
	held     bool      // acknowledged
	gaveUp   bool      // answered with an error that will not change
	again    time.Time // when a permanent value is to be refreshed
}

// PutOptions says how to put a value.
type PutOptions struct {
	Permanent bool      // keep it alive until CancelPut
	Created   time.Time // since when it exists; zero = now. Its life ends one lifetime of its type after that
}

// Put stores v at key: here, and on the 8 closest nodes of each family. v gets a random id if it has none, and must not
// be changed afterwards. Put waits until those nodes have acknowledged it once; that ErrNotConnected is returned means
// that no node did. A permanent value is announced to new closer nodes and refreshed before its life ends, also after
// Put has returned or its ctx has ended, until CancelPut.
//
// An acknowledgement proves nothing: nodes acknowledge what they refuse as well (§3.2). Putting an equal value again
// joins the running put; another one under the same id replaces it.
func (n *Node) Put(ctx context.Context, key dht.InfoHash, v *dht.Value, o PutOptions) error {
	if key.IsZero() || v == nil || v.Size() > dht.MaxValueSize {
		return ErrInvalid
	}
	if v.ID == 0 {
		v.ID = dht.RandomValueID()
	}
	if len(v.Append(nil)) > wire.MaxAnnounced {
		return fmt.Errorf("%w: serialised value too large", ErrInvalid)
	}
	done := make(chan error, 1)
	var p *put
	n.turn(func(now time.Time) { p = n.startPut(key, v, o, done, now) })
	select {
	case err := <-done:
		return err
	case <-n.done:
		return ErrClosed
	case <-ctx.Done():
		n.turn(func(time.Time) { p.abandonedBy(done) })
		return ctx.Err()
	}
}

// CancelPut stops announcing the value with that id at key and drops it from our own storage. Nodes that store it keep
// it until its life ends: nothing on the wire takes a value back. It reports whether there was such a put.
func (n *Node) CancelPut(key dht.InfoHash, id dht.ValueID) (found bool) {
	n.turn(func(now time.Time) {
		for _, p := range slices.Clone(n.puts[key]) {
			if p.v.ID == id {
				p.finish(ErrCancelled)
				p.drop()
				found = true
			}
		}
		if found && n.store.Remove(key, id) {
			n.pushGone([]storage.Gone{{Key: key, ID: id}}, now)
		}
	})
	return found
}

// Puts returns the values being announced at key.
func (n *Node) Puts(key dht.InfoHash) (values []*dht.Value) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.puts[key] {
		values = append(values, p.v)
	}
	return values
}

// startPut stores the value here and begins to announce it (§10.3).
func (n *Node) startPut(key dht.InfoHash, v *dht.Value, o PutOptions, done chan error, now time.Time) *put {
	p := &put{n: n, key: key, v: v, raw: v.Append(nil), created: o.Created, permanent: o.Permanent,
		lifetime: n.types.Lifetime(v.Type), pending: make(map[*family]bool), waiters: []chan error{done}}
	if p.created.IsZero() || p.created.After(now) {
		p.created = now
	}
	for _, old := range n.puts[key] {
		if old.v.ID != v.ID {
			continue
		}
		if old.v.Equal(v) && (old.permanent || !o.Permanent) {
			return old.join(done)
		}
		p.waiters = append(p.waiters, old.waiters...)
		old.waiters = nil
		old.drop()
		break
	}
	p.storeHere(now)
	n.puts[key] = append(n.puts[key], p)
	for _, f := range n.families {
		p.pending[f] = true
		n.searchFor(f, key, now)
	}
	return p
}

// join makes done hear of the put's end.
func (p *put) join(done chan error) *put {
	if len(p.pending) == 0 {
		done <- p.result()
	} else {
		p.waiters = append(p.waiters, done)
	}
	return p
}

// storeHere keeps our own copy, whatever policies say about those of others.
func (p *put) storeHere(now time.Time) {
	sv := storage.Value{Raw: p.raw, ID: p.v.ID, Type: p.v.Type, Created: p.created}
	lifetime := p.lifetime
	if p.permanent {
		lifetime = storage.Forever
	}
	if held, ok := p.n.held(p.key, p.v.ID); ok && held.Equal(p.v) {
		p.n.store.Refresh(p.key, p.v.ID, lifetime, now)
		return
	}
	p.n.insert(p.key, p.v, sv, lifetime, now)
}

// stepPuts moves the announcements at the search's key on.
func (s *search) stepPuts(ready []*searchNode, full bool, now time.Time) {
	for _, p := range slices.Clone(s.n.puts[s.key]) {
		complete := full
		for _, sn := range ready {
			st := sn.putState(p)
			if !st.inFlight && !st.gaveUp && (!st.held || p.permanent && !now.Before(st.again)) && !now.Before(sn.pause) {
				sn.announce(p, st, now)
			}
			if !st.held && !st.gaveUp {
				complete = false
			}
		}
		if complete {
			p.familyDone(s.f, now)
		}
	}
}

func (sn *searchNode) putState(p *put) *putState {
	st := sn.puts[p]
	if st == nil {
		st = new(putState)
		if sn.puts == nil {
			sn.puts = make(map[*put]*putState)
		}
		sn.puts[p] = st
	}
	return st
}

// announce does what the node needs to hold the value: a put, or for a permanent value a probe first, since refreshing
// succeeds for values that are not there too (§10.3).
func (sn *searchNode) announce(p *put, st *putState, now time.Time) {
	if !p.permanent {
		sn.sendPut(p, st, now)
		return
	}
	st.inFlight = true
	q := dht.Query{Select: []dht.Field{dht.FieldID, dht.FieldSeq}}
	m := &wire.Packet{Kind: wire.Get, InfoHash: p.key, HasQuery: true, Query: q, Want: sn.s.n.want()}
	sn.send(m, now, func(a answer, now time.Time) {
		st.inFlight = false
		switch {
		case a.p == nil || sn.token == nil:
		case !a.ok():
			st.gaveUp = true
		case holds(a.p, p.v):
			sn.sendRefresh(p, st, now)
		default:
			sn.sendPut(p, st, now)
		}
	})
}

// holds reports whether a probe's answer shows the value in this or a later version.
func holds(p *wire.Packet, v *dht.Value) bool {
	if p.Fields == nil {
		return slices.ContainsFunc(parseValues(p.Values), func(o *dht.Value) bool { return o.ID == v.ID && o.Seq >= v.Seq })
	}
	_, rows, err := wire.ParseFields(p.Fields)
	return err == nil && slices.ContainsFunc(rows, func(r wire.Row) bool { return r.ID == v.ID && r.Seq >= v.Seq })
}

func (sn *searchNode) sendPut(p *put, st *putState, now time.Time) {
	m := &wire.Packet{Kind: wire.Put, InfoHash: p.key, Token: sn.token}
	if !p.permanent && p.created.Before(now) {
		m.HasCreated, m.Created = true, p.created.Unix()
	}
	st.inFlight = true
	sn.s.n.requestValues(sn.s.f, sn.node, m, [][]byte{p.raw}, now, func(a answer, now time.Time) {
		sn.putAnswered(p, st, a, now)
	})
}

func (sn *searchNode) sendRefresh(p *put, st *putState, now time.Time) {
	m := &wire.Packet{Kind: wire.Refresh, InfoHash: p.key, HasValueID: true, ValueID: p.v.ID, Token: sn.token}
	st.inFlight = true
	sn.s.n.request(sn.s.f, sn.node, m, now, func(a answer, now time.Time) {
		if a.code == wire.CodeNotFound && sn.token != nil && !sn.gone && !p.dropped() {
			sn.sendPut(p, st, now)
			return
		}
		sn.putAnswered(p, st, a, now)
	})
}

// putAnswered books the end of a put or refresh (§3.3).
func (sn *searchNode) putAnswered(p *put, st *putState, a answer, now time.Time) {
	st.inFlight = false
	switch {
	case sn.gone || a.p == nil:
	case a.ok():
		sn.accepted()
		if !st.held {
			p.acked++
		}
		st.held = true
		st.again = now.Add(max(p.lifetime-refreshAhead, p.lifetime/2))
	case a.code == wire.CodeUnauthorized:
		sn.refused(now)
	default:
		st.gaveUp = true
	}
	sn.s.mark()
}

// nextPut calls soon with the times of refreshes due at the node.
func (sn *searchNode) nextPut(soon func(time.Time)) {
	for p, st := range sn.puts {
		if p.permanent && st.held && !st.inFlight {
			soon(st.again)
		}
	}
}

// familyDone notes that a family has stored the value, or cannot.
func (p *put) familyDone(f *family, now time.Time) {
	if !p.pending[f] {
		return
	}
	delete(p.pending, f)
	if len(p.pending) > 0 {
		return
	}
	p.finish(p.result())
	if !p.permanent {
		p.drop()
	}
}

func (p *put) result() error {
	if p.acked == 0 {
		return ErrNotConnected
	}
	return nil
}

func (p *put) finish(err error) {
	for _, w := range p.waiters {
		w <- err
	}
	p.waiters = nil
}

// abandonedBy ends a put that nobody waits for any more, unless it is permanent.
func (p *put) abandonedBy(done chan error) {
	p.waiters = slices.DeleteFunc(p.waiters, func(w chan error) bool { return w == done })
	if !p.permanent && len(p.waiters) == 0 {
		p.drop()
	}
}

// drop stops announcing.
func (p *put) drop() {
	n := p.n
	rest := slices.DeleteFunc(n.puts[p.key], func(o *put) bool { return o == p })
	if n.puts[p.key] = rest; len(rest) == 0 {
		delete(n.puts, p.key)
	}
	for _, f := range n.families {
		if s := f.searches[p.key]; s != nil {
			for _, sn := range s.nodes {
				delete(sn.puts, p)
			}
			s.mark()
		}
	}
	if ended := p.ended; ended != nil {
		p.ended = nil
		ended(p.acked)
	}
}

func (p *put) dropped() bool { return !slices.Contains(p.n.puts[p.key], p) }
