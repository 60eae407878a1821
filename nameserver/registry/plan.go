package registry

import (
	"context"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// plan is what one transaction is to append.
type plan struct {
	entries []planned
	later   []*request          // cannot be decided before this batch is
	next    []ledger.SigningKey // keys of rotations
}

type planned struct {
	req   *request
	entry ledger.Entry
	ev    ledger.Evidence
}

// plan answers what the map settles and makes entries of the rest. Two
// requests for one name or address never go into one batch: the second waits
// for what becomes of the first.
func (r *Registry) plan(ctx context.Context, reqs []*request) *plan {
	p := &plan{}
	taken := map[ledger.MapKey]bool{}
	ms := max(r.head.millis, ledger.Millis(r.opt.Now().UnixMilli()))
	var keys []ledger.MapKey
	for _, q := range reqs {
		if q.ctx.Err() != nil {
			continue
		}
		e, ev, done := r.planOne(q, ms)
		if done {
			continue
		}
		keys = ledger.MapKeys(keys[:0], e)
		if clash(taken, keys) || q.make != nil && len(p.entries) > 0 {
			p.later = append(p.later, q)
			continue
		}
		for _, k := range keys {
			taken[k] = true
		}
		p.entries = append(p.entries, planned{q, e, ev})
		if !q.next.IsZero() {
			p.next = append(p.next, q.next)
		}
		if q.make != nil {
			taken[ledger.MapKey{}] = true // an operator's entry stands alone
		}
	}
	return p
}

func clash(taken map[ledger.MapKey]bool, keys []ledger.MapKey) bool {
	if taken[ledger.MapKey{}] {
		return true
	}
	for _, k := range keys {
		if taken[k] {
			return true
		}
	}
	return false
}

// planOne makes the entry of a request, or answers it.
func (r *Registry) planOne(q *request, ms ledger.Millis) (ledger.Entry, ledger.Evidence, bool) {
	if q.make != nil {
		e, err := q.make(r.head, ms)
		if err != nil || e == nil {
			q.answer(Record{}, err)
			return nil, ledger.Evidence{}, true
		}
		return e, ledger.Evidence{}, false
	}
	if rec, err, settled := r.settled(q); settled {
		q.answer(rec, err)
		return nil, ledger.Evidence{}, true
	}
	q.reg.entry.Millis = ms
	return q.reg.entry, q.reg.ev, false
}

// claim enters the names into the store's index. If one loses there though the
// map had it free (its skeleton is taken, its invite is spent), the losers are
// answered, dropped from the plan, and the transaction is of no more use.
func (r *Registry) claim(ctx context.Context, tx store.Tx, p *plan) (lost bool, err error) {
	var names []store.Name
	var of []int
	for i, e := range p.entries {
		n := store.Name{Index: r.head.edge.Size() + int64(i)}
		switch e := e.entry.(type) {
		case *ledger.Register:
			q := p.entries[i].req
			n.Key, n.Skeleton, n.Address, n.Invite = e.LookupKey(), q.reg.Skeleton, &q.reg.Address, q.reg.Invite
		case *ledger.Tombstone:
			n.Key = e.Key
		default:
			continue
		}
		names, of = append(names, n), append(of, i)
	}
	if len(names) == 0 {
		return false, nil
	}
	outcomes, err := tx.Claim(ctx, r.opt.Now(), names)
	if err != nil {
		return false, err
	}
	for j, o := range outcomes {
		e := &p.entries[of[j]]
		switch o {
		case store.Taken:
			e.req.answer(Record{}, ErrTaken)
		case store.NoInvite:
			e.req.answer(Record{}, ErrInvite)
		default:
			continue
		}
		e.req, lost = nil, true
	}
	return lost, nil
}

// unanswered returns every request of the plan that has no answer yet.
func (p *plan) unanswered() []*request {
	var out []*request
	for _, e := range p.entries {
		if e.req != nil {
			out = append(out, e.req)
		}
	}
	return append(out, p.later...)
}

// answerAll tells every request of the batch that it is in the log.
func (p *plan) answerAll(r *Registry, b store.Batch) {
	first := b.Next.Size - int64(len(b.Entries))
	for i, e := range p.entries {
		index := first + int64(i)
		l := newLogged(b.Entries[i], e.entry, e.ev)
		rec, ok := l.record(index)
		if !ok {
			e.req.answer(Record{Index: index}, nil)
			continue
		}
		r.records.put(index, l, l.bytes())
		e.req.answer(rec, nil)
	}
}
