package registry

import (
	"context"
	"fmt"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// Feed is a run of entries a mirror got, from its stored size on. The caller
// has checked the evidence's signatures and that the entries are in the log of
// a checkpoint signed by the log.
type Feed struct {
	Entries  [][]byte
	Evidence []ledger.Evidence
	// Checkpoint is the signed checkpoint these entries lead up to; nil while
	// more are to come before it. They are stored either way, and read by
	// nobody before.
	Checkpoint []byte
}

// StoredSize returns how many entries a mirror has stored, published or not.
func (r *Registry) StoredSize() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ahead != nil {
		return r.ahead.size()
	}
	return r.head.edge.Size()
}

// Heard tells a mirror that it has just been up to date with its source.
func (r *Registry) Heard() { r.heard.Store(r.opt.Now().UnixMilli()) }

// Freeze stops a mirror (or a writer) for good because of err; see Status.
func (r *Registry) Freeze(err error) { _ = r.freeze(err) }

// Ingest checks every rule of the log over the feed, every map root among them,
// stores it, and publishes it if it comes with its checkpoint. On
// ErrInconsistent nothing of the feed is stored and the mirror is frozen at its
// last good size.
func (r *Registry) Ingest(ctx context.Context, f Feed) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mirror() || r.frozen() {
		return ErrReadOnly
	}
	s := r.ahead
	if s == nil {
		s = newStage(r.head, r.origin, r.tree, r.fetchTile(ctx))
	}
	s.fetch = r.fetchTile(ctx)
	r.ahead = nil // until it is stored, the stage is nobody's
	if err := r.ingest(ctx, s, f); err != nil {
		s.rollback()
		if e := r.maybeFreeze(err); r.frozen() {
			return e
		}
		return fmt.Errorf("%w: %w", err, r.reload(ctx))
	}
	return nil
}

// reload brings a mirror back to what its store says, after a failure that may
// have stored the feed or not.
func (r *Registry) reload(ctx context.Context) error {
	st, err := r.store.State(ctx)
	if err != nil {
		return err
	}
	return r.extendTo(ctx, st, false)
}

func (r *Registry) ingest(ctx context.Context, s *stage, f Feed) error {
	first := s.size()
	var names []store.Name
	for i, data := range f.Entries {
		e, err := s.add(data)
		if err != nil {
			return err
		}
		if n, ok := r.nameOf(e, first+int64(i)); ok {
			names = append(names, n)
		}
	}
	root, err := s.log.Root(s.fetch)
	if err != nil {
		return err
	}
	next := store.State{Origin: r.origin, Size: s.size(), Root: root, MapRoot: s.mapRoot, VKey: s.vkey(), KeyEpoch: max(0, len(s.vkeys)-1)}
	if v := r.view.Load(); v != nil {
		next.PubSize, next.PubCheckpoint = v.checkpoint.Size, v.note
	}
	if f.Checkpoint != nil {
		c, err := openBy(f.Checkpoint, r.origin, s.vkeys)
		if err != nil {
			return err
		}
		if c.Size != next.Size || c.Root != root {
			return fmt.Errorf("%w: checkpoint says %d %v, entries give %d %v", ErrInconsistent, c.Size, c.Root, next.Size, root)
		}
		next.PubSize, next.PubCheckpoint = c.Size, f.Checkpoint
	}
	b := store.Batch{Entries: f.Entries, Evidence: f.Evidence, Tiles: s.fullTiles(), Next: next}
	if err := r.storeFeed(ctx, first, names, b); err != nil {
		return err
	}
	if f.Checkpoint == nil {
		s.log.Full = nil // in the store now
		r.ahead = s
		return nil
	}
	return r.publish(s, f.Checkpoint)
}

func (r *Registry) nameOf(e ledger.Entry, index int64) (store.Name, bool) {
	switch e := e.(type) {
	case *ledger.Register:
		n := store.Name{Index: index, Key: e.LookupKey(), Address: &e.Address}
		if r.opt.Skeleton != nil {
			n.Skeleton = r.opt.Skeleton(n.Key)
		}
		return n, true
	case *ledger.Tombstone:
		return store.Name{Index: index, Key: e.Key}, true
	}
	return store.Name{}, false
}

// storeFeed writes the batch. A name that loses only for its skeleton (the
// writer's policy was another at the time) is stored without one.
func (r *Registry) storeFeed(ctx context.Context, first int64, names []store.Name, b store.Batch) error {
	for {
		again, err := r.tryStoreFeed(ctx, first, names, b)
		if !again {
			return err
		}
	}
}

func (r *Registry) tryStoreFeed(ctx context.Context, first int64, names []store.Name, b store.Batch) (again bool, err error) {
	tx, err := r.store.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if st := tx.State(); st.Size != first {
		return false, fmt.Errorf("%w: mirror store is at %d, not %d: a second process writes to it", store.ErrConflict, st.Size, first)
	}
	if len(names) > 0 {
		outcomes, err := tx.Claim(ctx, r.opt.Now(), names)
		if err != nil {
			return false, err
		}
		for i, o := range outcomes {
			switch {
			case o == store.Won:
			case names[i].Skeleton == "":
				return false, fmt.Errorf("%w: store has %q already", ErrInconsistent, names[i].Key)
			default:
				names[i].Skeleton, again = "", true
			}
		}
		if again {
			return true, nil
		}
	}
	return false, tx.Commit(ctx, b)
}

// Promote makes the store of a mirror ready for a writer with the log's key in
// force: what the mirror stored beyond its checkpoint is signed. It is an
// explicit act, because two writers on two stores would split the log. After it,
// open the store with the key.
func Promote(ctx context.Context, opt Options, key ledger.SigningKey) error {
	opt.Key = ledger.SigningKey{}
	r, err := Open(ctx, opt)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &r.head
	if r.ahead != nil {
		h = &r.ahead.head
	}
	if h.vkey() != key.VKey() {
		return fmt.Errorf("%w: the key in force is %s", ErrReadOnly, h.vkey())
	}
	if err := r.guardWith(ctx, r.ahead); err != nil {
		return err
	}
	if r.ahead == nil {
		return nil
	}
	return r.signAhead(ctx, key)
}

func (r *Registry) signAhead(ctx context.Context, key ledger.SigningKey) error {
	s := r.ahead
	r.ahead = nil
	root, err := s.finish()
	if err != nil {
		s.rollback()
		return fmt.Errorf("mirror stopped inside a batch; let it follow further, or restore from another: %w", err)
	}
	signed, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: r.origin, Size: s.size(), Root: root}, key.Signer())
	if err != nil {
		return err
	}
	next := store.State{
		Origin: r.origin, Size: s.size(), Root: root, MapRoot: s.mapRoot,
		PubSize: s.size(), PubCheckpoint: signed, VKey: s.vkey(), KeyEpoch: len(s.vkeys) - 1,
	}
	if _, err := r.tryStoreFeed(ctx, s.size(), nil, store.Batch{Next: next}); err != nil {
		s.rollback()
		return err
	}
	return r.publish(s, signed)
}
