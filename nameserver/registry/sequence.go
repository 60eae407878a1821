package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/jirani/jirani/internal/wait"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// request waits for its place in the log: a registration, or an entry made by
// make for the operator.
type request struct {
	ctx    context.Context
	reg    *registration
	make   func(h head, ms ledger.Millis) (ledger.Entry, error) // nil entry: nothing to do
	next   ledger.SigningKey                                    // the key a rotation hands over to
	result chan answer                                          // of capacity one
}

// registration is what of a registration is made once, though it may be
// planned several times.
type registration struct {
	ledger.Registration
	entry             *ledger.Register // its time is set when it is planned
	ev                ledger.Evidence
	byName, byAddress ledger.MapKey // places of name and address in the map
}

func newRegistration(reg ledger.Registration) (*registration, error) {
	e, ev, err := ledger.NewRegister(reg, 0)
	if err != nil {
		return nil, err
	}
	return &registration{reg, e, ev, ledger.NameKey(reg.LookupKey()), ledger.AddressKey(reg.Address)}, nil
}

type answer struct {
	record Record
	err    error
}

func (q *request) answer(rec Record, err error) { q.result <- answer{rec, err} }

// Register implements Writer.
func (r *Registry) Register(ctx context.Context, reg ledger.Registration) (Record, error) {
	return r.register(ctx, reg, true)
}

// RegisterVerified is Register for a registration whose Verify the caller has
// called.
func (r *Registry) RegisterVerified(ctx context.Context, reg ledger.Registration) (Record, error) {
	return r.register(ctx, reg, false)
}

func (r *Registry) register(ctx context.Context, reg ledger.Registration, verify bool) (Record, error) {
	if r.mirror() || r.frozen() {
		return Record{}, ErrReadOnly
	}
	n, err := newRegistration(reg)
	if err == nil && verify {
		err = r.verifyOne(ctx, n)
	}
	if err != nil {
		return Record{}, err
	}
	q := &request{ctx: ctx, reg: n}
	if rec, err, settled := r.settled(q); settled {
		return rec, err
	}
	return r.enqueue(q)
}

// verifyOne checks the account's signature, no more than Options.Verifiers at
// a time.
func (r *Registry) verifyOne(ctx context.Context, n *registration) error {
	select {
	case r.verify <- struct{}{}:
	case <-ctx.Done():
		return ErrBusy
	}
	defer func() { <-r.verify }()
	return ledger.VerifyBinding(n.Name, n.Address, n.ev.PublicKey, n.Signature)
}

func (r *Registry) enqueue(q *request) (Record, error) {
	q.result = make(chan answer, 1)
	select {
	case r.queue <- q:
	default:
		return Record{}, fmt.Errorf("%w: queue is full", ErrBusy)
	}
	select {
	case a := <-q.result:
		return a.record, a.err
	case <-q.ctx.Done():
		return Record{}, fmt.Errorf("%w: %w", ErrBusy, q.ctx.Err())
	}
}

// settled answers a registration from what the map already holds.
func (r *Registry) settled(q *request) (Record, error, bool) {
	f, ok := r.tree.Get(q.reg.byName)
	if !ok {
		if _, ok := r.tree.Get(q.reg.byAddress); ok {
			return Record{}, ErrAddressTaken, true
		}
		return Record{}, nil, false
	}
	l, err := r.load(q.ctx, f.Index)
	if err != nil {
		return Record{}, err, true
	}
	if e, ok := l.entry.(*ledger.Register); ok && e.Address == q.reg.Address && e.SPKIHash == q.reg.entry.SPKIHash && e.LookupKey() == q.reg.LookupKey() {
		rec, _ := l.record(f.Index)
		return rec, nil, true
	}
	return Record{}, ErrTaken, true
}

// Retry pauses of the sequencer while the store fails.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
	// commitTimeout bounds one transaction, also after Run was told to end.
	commitTimeout = 20 * time.Second
)

// sequence takes requests off the queue and commits them in batches until ctx
// is done: what is queued goes together, so that an idle log answers in the
// time of one commit and a busy one fills its batches.
func (r *Registry) sequence(ctx context.Context) {
	r.guardFirst(ctx)
	var batch []*request
	pause := minPause
	for {
		batch = r.collect(ctx, batch)
		if ctx.Err() != nil {
			r.refuse(batch)
			return
		}
		rest, err := r.commitBatch(ctx, batch)
		batch = dropGone(rest)
		if err == nil || errors.Is(err, store.ErrConflict) {
			pause = minPause
			r.clearTrouble()
			continue
		}
		if r.frozen() {
			r.refuse(batch)
			batch = nil
			continue
		}
		r.setTrouble(err)
		_ = wait.For(ctx, pause)
		pause = min(2*pause, maxPause)
	}
}

// guardFirst asks the guards before the first request comes, so that it need not
// wait for them with the store's lock in hand. What cannot be settled now is
// settled then.
func (r *Registry) guardFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	st, err := r.store.State(ctx)
	if err == nil {
		err = r.extendTo(ctx, st, false)
	}
	if err == nil {
		err = r.maySign(ctx, st)
	}
	if err != nil {
		r.log.Debug("rollback guard put off", "err", err)
	}
}

// collect waits for a first request unless there is one, and adds what else is
// queued.
func (r *Registry) collect(ctx context.Context, batch []*request) []*request {
	if len(batch) == 0 {
		select {
		case q := <-r.queue:
			batch = append(batch, q)
		case <-ctx.Done():
			return batch
		}
	}
	for len(batch) < r.opt.MaxBatch {
		select {
		case q := <-r.queue:
			batch = append(batch, q)
		default:
			return batch
		}
	}
	return batch
}

func (r *Registry) refuse(batch []*request) {
	err := ErrNotReady
	if r.frozen() {
		err = ErrReadOnly
	}
	for {
		for _, q := range batch {
			q.answer(Record{}, err)
		}
		select {
		case q := <-r.queue:
			batch = []*request{q}
		default:
			return
		}
	}
}

func dropGone(batch []*request) []*request {
	out := batch[:0]
	for _, q := range batch {
		if q.ctx.Err() == nil {
			out = append(out, q)
		}
	}
	return out
}

func (r *Registry) setTrouble(err error) {
	if t := r.trouble.Load(); t == nil {
		r.log.Warn("ledger commit failed", "err", err)
		r.trouble.Store(&trouble{reason: err.Error(), since: r.opt.Now()})
	}
}

func (r *Registry) clearTrouble() {
	if t := r.trouble.Load(); t != nil && !t.final {
		r.trouble.Store(nil)
		r.log.Info("ledger commits again", "duration", r.opt.Now().Sub(t.since))
	}
}

// commitBatch runs one transaction and answers what it settles. What it
// returns has to be tried again; with an error, nothing is known of the batch
// but what the next transaction reads.
func (r *Registry) commitBatch(ctx context.Context, reqs []*request) ([]*request, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	tx, err := r.store.Begin(ctx)
	if err != nil {
		return reqs, err
	}
	defer tx.Rollback()
	st := tx.State()
	if err := r.extendTo(ctx, st, false); err != nil {
		return reqs, err
	}
	if err := r.maySign(ctx, st); err != nil {
		return reqs, err
	}
	p := r.plan(ctx, reqs)
	if len(p.entries) == 0 {
		return p.later, nil
	}
	if lost, err := r.claim(ctx, tx, p); err != nil {
		return p.unanswered(), err
	} else if lost {
		return p.unanswered(), nil
	}
	return r.seal(ctx, tx, p)
}

// seal appends, signs and commits the plan's entries. Only after the store has
// acknowledged does anything leave: the checkpoint to readers, the answers to
// clients.
func (r *Registry) seal(ctx context.Context, tx store.Tx, p *plan) ([]*request, error) {
	s := newStage(r.head, r.origin, r.tree, r.fetchTile(ctx))
	b := store.Batch{Entries: make([][]byte, 0, len(p.entries)+1), Evidence: make([]ledger.Evidence, 0, len(p.entries)+1)}
	for _, e := range p.entries {
		data := ledger.AppendEntry(make([]byte, 0, 256), e.entry)
		if err := s.addParsed(e.entry, data, ledger.LeafHash(data)); err != nil {
			s.rollback()
			return p.unanswered(), err
		}
		b.Entries, b.Evidence = append(b.Entries, data), append(b.Evidence, e.ev)
	}
	if err := s.seal(&b, tx.State(), r.key, p.next...); err != nil {
		s.rollback()
		return p.unanswered(), err
	}
	if err := tx.Commit(ctx, b); err != nil {
		s.rollback()
		return p.unanswered(), err
	}
	r.show(s, ledger.Checkpoint{Origin: r.origin, Size: b.Next.Size, Root: b.Next.Root}, b.Next.PubCheckpoint)
	if len(p.next) > 0 {
		r.key = p.next[len(p.next)-1]
	}
	p.answerAll(r, b)
	return p.later, nil
}

// seal closes the batch with its map root and signs the checkpoint: by the key
// in force before, and by each that a rotation in the batch brings.
func (s *stage) seal(b *store.Batch, st store.State, key ledger.SigningKey, next ...ledger.SigningKey) error {
	mr, err := s.mapRootEntry()
	if err != nil {
		return err
	}
	data := ledger.AppendEntry(nil, mr)
	if err := s.addParsed(mr, data, ledger.LeafHash(data)); err != nil {
		return err
	}
	b.Entries, b.Evidence = append(b.Entries, data), append(b.Evidence, ledger.Evidence{})
	root, err := s.finish()
	if err != nil {
		return err
	}
	signers := []note.Signer{key.Signer()}
	for _, k := range next {
		signers = append(signers, k.Signer())
	}
	signed, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: s.origin, Size: s.size(), Root: root}, signers...)
	if err != nil {
		return fmt.Errorf("registry: sign: %w", err)
	}
	b.Tiles = s.fullTiles()
	b.Next = store.State{
		Origin: s.origin, Size: s.size(), Root: root, MapRoot: s.mapRoot,
		PubSize: s.size(), PubCheckpoint: signed, VKey: s.vkey(), KeyEpoch: len(s.vkeys) - 1,
	}
	return nil
}

func (s *stage) fullTiles() []store.Tile {
	var out []store.Tile
	for _, f := range s.log.Full {
		out = append(out, store.Tile{Level: f.Level, N: f.N, Data: f.Tile.Bytes(ledger.TileWidth)})
	}
	return out
}
