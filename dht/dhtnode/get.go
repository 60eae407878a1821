package dhtnode

import (
	"context"
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
)

// Bounds of one lookup, against nodes that invent values.
const (
	maxFound    = 16384 // different values or rows kept
	maxFetches  = 8     // requests in flight to one node for values it listed
	maxFetchIDs = 4096  // value ids taken from one node's list
)

// getOp is a Get or Query in progress. Owned by the node's lock.
type getOp struct {
	key      dht.InfoHash
	query    dht.Query
	pending  int  // families still looking
	answered bool // by at least one node
	seen     map[dht.ValueID][]*dht.Value
	count    int
	queue    []*dht.Value // found and not yet taken by the caller
	rows     []wire.Row
	wake     chan struct{} // something is in queue, or pending is 0
	local    bool          // answered from a running listen
}

// getRun is a getOp's part in one family.
type getRun struct {
	op *getOp
	s  *search
}

// getState is how far a getRun is with one node.
type getState struct {
	asked, listed bool
	todo          []dht.ValueID
	inFlight      int
}

func (st *getState) done() bool { return st.listed && len(st.todo) == 0 && st.inFlight == 0 }

// Get looks up the values at key that pass q's conditions and calls yield with each different one as it arrives, values
// of our own storage first, until yield returns false or the closest 8 nodes of every family have answered. Values with
// a signature that does not verify are left out. Values encrypted to somebody come as they are; see [Node.Open]. The
// error is ctx's, or ErrNotConnected when no node could be asked; what was found before is still right.
func (n *Node) Get(ctx context.Context, key dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error {
	if key.IsZero() || len(q.Select) > 0 || !encodable(q) {
		return ErrInvalid
	}
	op := &getOp{key: key, query: q.Clone(), seen: make(map[dht.ValueID][]*dht.Value), wake: make(chan struct{}, 1)}
	n.turn(func(now time.Time) { n.startGet(op, now) })
	defer n.turn(func(now time.Time) { n.cancelGet(op) })
	for {
		if err := n.wait(ctx, op.wake); err != nil {
			return err
		}
		values, finished, answered := n.takeFound(op)
		for _, v := range values {
			if v.IsSigned() && v.Verify() != nil {
				continue
			}
			if !yield(v) {
				return nil
			}
		}
		if finished {
			if !answered {
				return ErrNotConnected
			}
			return nil
		}
	}
}

// Query looks up the selected fields of the values at key that pass q's conditions. Rows are the claims of the nodes
// asked; nothing in them is verified. It waits as Get does.
func (n *Node) Query(ctx context.Context, key dht.InfoHash, q dht.Query) ([]wire.Row, error) {
	if key.IsZero() || len(q.Select) == 0 || !encodable(q) {
		return nil, ErrInvalid
	}
	op := &getOp{key: key, query: q.Clone(), wake: make(chan struct{}, 1)}
	n.turn(func(now time.Time) { n.startGet(op, now) })
	defer n.turn(func(now time.Time) { n.cancelGet(op) })
	for {
		if err := n.wait(ctx, op.wake); err != nil {
			return nil, err
		}
		_, finished, answered := n.takeFound(op)
		if finished && !answered {
			return op.rows, ErrNotConnected
		}
		if finished {
			return op.rows, nil
		}
	}
}

// encodable: a condition on seq cannot be sent (§3.9).
func encodable(q dht.Query) bool {
	for _, w := range q.Where {
		if !w.Field.Valid() || w.Field == dht.FieldSeq {
			return false
		}
	}
	for _, f := range q.Select {
		if !f.Valid() {
			return false
		}
	}
	return true
}

func (n *Node) takeFound(op *getOp) (values []*dht.Value, finished, answered bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	values, op.queue = op.queue, nil
	return values, op.pending == 0, op.answered || op.local
}

// startGet consults local storage and running listens, then the network (§10.2, §10.4).
func (n *Node) startGet(op *getOp, now time.Time) {
	if op.seen != nil {
		n.store.Values(op.key, now, func(sv storage.Value) bool {
			if v, _, err := dht.ParseValue(sv.Raw); err == nil && op.query.Match(v) {
				op.found(v)
			}
			return true
		})
		if w := n.syncedWatch(op.key, op.query); w != nil {
			w.current(func(v *dht.Value) {
				if op.query.Match(v) {
					op.found(v)
				}
			})
			op.local = true
			poke(op.wake)
			return
		}
	} else {
		n.localRows(op, now)
	}
	for _, f := range n.families {
		s := n.searchFor(f, op.key, now)
		s.gets = append(s.gets, &getRun{op: op, s: s})
		op.pending++
	}
}

// localRows answers a query from our own storage.
func (n *Node) localRows(op *getOp, now time.Time) {
	n.store.Values(op.key, now, func(sv storage.Value) bool {
		if v, _, err := dht.ParseValue(sv.Raw); err == nil && op.query.Match(v) {
			row := wire.Row{ID: v.ID, Type: v.Type, Owner: v.Owner, Seq: v.Seq, UserType: v.UserType}
			if v.Owner != nil {
				row.OwnerID = v.Owner.ID()
			}
			op.rows = append(op.rows, row)
		}
		return true
	})
}

func (n *Node) cancelGet(op *getOp) {
	for _, f := range n.families {
		if s := f.searches[op.key]; s != nil {
			for _, g := range slices.Clone(s.gets) {
				if g.op == op {
					g.forget()
				}
			}
			s.mark()
		}
	}
}

// found takes a value unless it is known already.
func (op *getOp) found(v *dht.Value) {
	if op.count >= maxFound || slices.ContainsFunc(op.seen[v.ID], v.Equal) {
		return
	}
	op.seen[v.ID] = append(op.seen[v.ID], v)
	op.count++
	op.queue = append(op.queue, v)
	poke(op.wake)
}

// askGets sends what the gets of the search want from this node now and reports whether it is being asked.
func (sn *searchNode) askGets(now time.Time) bool {
	for _, g := range sn.s.gets {
		st := sn.gets[g]
		if st == nil {
			st = new(getState)
			if sn.gets == nil {
				sn.gets = make(map[*getRun]*getState)
			}
			sn.gets[g] = st
		}
		if !st.asked {
			st.asked = true
			sn.list(g, st, now)
		}
		for len(st.todo) > 0 && st.inFlight < maxFetches {
			id := st.todo[0]
			st.todo = st.todo[1:]
			sn.fetch(g, st, id, now)
		}
	}
	return sn.busy > 0
}

// list asks for the ids of the values, or for what the query selects (§10.2).
func (sn *searchNode) list(g *getRun, st *getState, now time.Time) {
	q := g.op.query
	if len(q.Select) == 0 {
		q.Select = []dht.Field{dht.FieldID}
	}
	sn.get(g, st, q, now, func(a answer) {
		st.listed = true
		if !a.ok() {
			return
		}
		g.op.answered = true
		switch {
		case g.op.seen == nil:
			g.op.addRows(a.p)
		case a.p.Fields != nil:
			st.todo = listedIDs(a.p)
		default:
			g.take(a.p)
		}
	})
}

// fetch asks for one value.
func (sn *searchNode) fetch(g *getRun, st *getState, id dht.ValueID, now time.Time) {
	q := dht.Query{Where: []dht.FieldValue{dht.WhereID(id)}}
	sn.get(g, st, q, now, func(a answer) {
		if a.ok() {
			g.take(a.p)
		}
	})
}

func (sn *searchNode) get(g *getRun, st *getState, q dht.Query, now time.Time, done func(answer)) {
	st.inFlight++
	p := &wire.Packet{Kind: wire.Get, InfoHash: sn.s.key, Want: sn.s.n.want(), HasQuery: !q.IsZero(), Query: q}
	sn.send(p, now, func(a answer, _ time.Time) {
		st.inFlight--
		done(a)
	})
}

// take keeps the values of a reply that the query asked for.
func (g *getRun) take(p *wire.Packet) {
	for _, v := range parseValues(p.Values) {
		if v.ID != 0 && g.op.query.Match(v) {
			g.op.found(v)
		}
	}
}

func listedIDs(p *wire.Packet) (ids []dht.ValueID) {
	_, rows, err := wire.ParseFields(p.Fields)
	if err != nil {
		return nil
	}
	for _, r := range rows[:min(len(rows), maxFetchIDs)] {
		if r.ID != 0 {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// addRows keeps the different rows of a reply.
func (op *getOp) addRows(p *wire.Packet) {
	if p.Fields == nil {
		return
	}
	_, rows, err := wire.ParseFields(p.Fields)
	if err != nil {
		return
	}
	for _, r := range rows {
		same := func(o wire.Row) bool {
			return o.ID == r.ID && o.Type == r.Type && o.OwnerID == r.OwnerID && o.Seq == r.Seq && o.UserType == r.UserType
		}
		if len(op.rows) < maxFound && !slices.ContainsFunc(op.rows, same) {
			op.rows = append(op.rows, r)
		}
	}
}

// finishGets ends the gets the first 8 usable nodes have answered.
func (s *search) finishGets(now time.Time) {
	for _, g := range slices.Clone(s.gets) {
		usable, done := 0, 0
		for _, sn := range s.nodes {
			if !sn.usable() {
				continue
			}
			if usable++; usable > routing.K {
				break
			}
			if st := sn.gets[g]; st != nil && st.done() {
				done++
			}
		}
		if k := min(usable, routing.K); k > 0 && done >= k {
			g.end(now)
		}
	}
}

// end finishes the get in this family.
func (g *getRun) end(time.Time) {
	g.forget()
	if g.op.pending--; g.op.pending == 0 {
		poke(g.op.wake)
	}
}

func (g *getRun) forget() {
	g.s.gets = slices.DeleteFunc(g.s.gets, func(o *getRun) bool { return o == g })
	for _, sn := range g.s.nodes {
		delete(sn.gets, g)
	}
}
