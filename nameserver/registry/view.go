package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledger/logtree"
	"github.com/jirani/jirani/nameserver/ledger/prefixtree"
)

// view is one published version of the log. It is immutable, and swapped
// together with the map's version.
type view struct {
	head
	checkpoint ledger.Checkpoint
	note       []byte
	next       chan struct{} // closed when a newer view is published
}

// logged is an entry with its evidence as it is kept in the cache.
type logged struct {
	data  []byte
	entry ledger.Entry
	ev    ledger.Evidence
	key   []byte // public key of a registration as its client wrote it, which every lookup returns
}

func newLogged(data []byte, e ledger.Entry, ev ledger.Evidence) *logged {
	l := &logged{data: data, entry: e, ev: ev}
	if r, ok := e.(*ledger.Register); ok {
		l.key = r.PublicKeyText(ev.PublicKey)
	}
	return l
}

// bytes is about what l takes in memory.
func (l *logged) bytes() int64 {
	return int64(512 + 2*len(l.data) + len(l.ev.PublicKey) + len(l.ev.Signature) + len(l.key))
}

// record is l as it is served, if it is a registration.
func (l *logged) record(index int64) (rec Record, ok bool) {
	e, ok := l.entry.(*ledger.Register)
	if !ok {
		return Record{}, false
	}
	return Record{
		Index: index, Time: e.Time(), Name: e.Name, Key: e.LookupKey(), Address: e.Address, Owner: e.Owner,
		PublicKey: l.key, Signature: l.ev.Signature,
	}, true
}

// readTimeout bounds what one answer waits for the store: a database that is
// frozen rather than down says nothing at all.
const readTimeout = 3 * time.Second

// fetchTile returns full tiles from cache or store.
func (r *Registry) fetchTile(ctx context.Context) logtree.Fetch {
	return func(level int, n int64) (*logtree.Tile, error) {
		key := tileKey{level, n}
		if t, ok := r.tiles.get(key); ok {
			return t, nil
		}
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		data, err := r.store.Tile(ctx, level, n)
		if err != nil {
			return nil, notReady(err)
		}
		t, err := logtree.ExpandTile(data)
		if err != nil {
			return nil, err
		}
		r.tiles.put(key, t, logtree.TileBytes)
		return t, nil
	}
}

type tileKey struct {
	level int
	n     int64
}

func notReady(err error) error { return fmt.Errorf("%w: %w", ErrNotReady, err) }

// load returns an entry with its evidence.
func (r *Registry) load(ctx context.Context, index int64) (*logged, error) {
	if l, ok := r.records.get(index); ok {
		return l, nil
	}
	l, err := r.fetch(ctx, index)
	if err != nil {
		return nil, notReady(err)
	}
	r.records.put(index, l, l.bytes())
	return l, nil
}

// fetch reads an entry with its evidence from the store.
func (r *Registry) fetch(ctx context.Context, index int64) (*logged, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var data []byte
	var e ledger.Entry
	var ev ledger.Evidence
	err := r.store.Entries(ctx, index, index+1, func(_ int64, b []byte) (err error) {
		data = bytes.Clone(b)
		e, err = ledger.ParseEntry(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = r.store.Evidence(ctx, index, index+1, func(_ int64, stored ledger.Evidence) error {
		ev = ledger.Evidence{PublicKey: bytes.Clone(stored.PublicKey), Signature: bytes.Clone(stored.Signature)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if reg, ok := e.(*ledger.Register); ok {
		if err := reg.Bound(ev); err != nil {
			return nil, fmt.Errorf("entry %d in the store: %w", index, err)
		}
	}
	return newLogged(data, e, ev), nil
}

// find returns where the log speaks of a key, once it is sure: on a miss it
// first catches up with what other writers committed.
func (r *Registry) find(ctx context.Context, key ledger.MapKey) (int64, error) {
	if f, ok := r.tree.Get(key); ok {
		return f.Index, nil
	}
	if err := r.refresh(ctx); err != nil {
		return 0, err
	}
	if f, ok := r.tree.Get(key); ok {
		return f.Index, nil
	}
	return 0, ErrNotFound
}

// LookupName implements Reader.
func (r *Registry) LookupName(ctx context.Context, key string) (Record, error) {
	index, err := r.find(ctx, ledger.NameKey(key))
	if err != nil {
		return Record{}, err
	}
	l, err := r.load(ctx, index)
	if err != nil {
		return Record{}, err
	}
	if rec, ok := l.record(index); ok && rec.Key == key {
		return rec, nil
	}
	return Record{}, ErrNotFound // burnt
}

// LookupAddress implements Reader.
func (r *Registry) LookupAddress(ctx context.Context, a ledger.Address) (Record, error) {
	index, err := r.find(ctx, ledger.AddressKey(a))
	if err != nil {
		return Record{}, err
	}
	l, err := r.load(ctx, index)
	if err != nil {
		return Record{}, err
	}
	rec, ok := l.record(index)
	if !ok || rec.Address != a {
		return Record{}, ErrNotFound
	}
	if f, ok := r.tree.Get(ledger.NameKey(rec.Key)); !ok || f.Index != index {
		return Record{}, ErrNotFound // the name was burnt later
	}
	return rec, nil
}

// Prove implements Reader.
func (r *Registry) Prove(ctx context.Context, s ledger.Subject) (ledger.Proof, error) {
	key := s.MapKey()
	if _, err := r.find(ctx, key); err != nil && !errors.Is(err, ErrNotFound) {
		return ledger.Proof{}, err
	}
	var path prefixtree.Path
	var v *view
	r.tree.View(func(t prefixtree.View) { path, v = t.Prove(key), r.view.Load() })
	if v == nil {
		return ledger.Proof{}, ErrNotReady
	}
	p := ledger.Proof{Subject: s, Checkpoint: r.withCosignatures(ctx, v), Map: ledger.MapProof{Siblings: path.Siblings}}
	var err error
	if p.MapRoot, err = r.inclusion(ctx, v, v.checkpoint.Size-1, v.rootRaw); err != nil {
		return ledger.Proof{}, err
	}
	if !path.HasEnd {
		return p, nil
	}
	l, err := r.load(ctx, path.End.Index)
	if err != nil {
		return ledger.Proof{}, err
	}
	if !path.Own {
		keys := ledger.MapKeys(nil, l.entry)
		p.Map.Other = &ledger.MapLeaf{Key: keys[tagIndex(path.End.Tag)], Index: path.End.Index, EntryHash: ledger.LeafHash(l.data)}
		return p, nil
	}
	e, err := r.inclusion(ctx, v, path.End.Index, l.data)
	p.Entry = &e
	if len(l.ev.PublicKey) > 0 {
		p.Evidence = &l.ev
	}
	return p, err
}

func tagIndex(tag bool) int {
	if tag {
		return 1
	}
	return 0
}

func (r *Registry) inclusion(ctx context.Context, v *view, index int64, data []byte) (ledger.LoggedEntry, error) {
	p, err := tlog.ProveRecord(v.checkpoint.Size, index, v.edge.Reader(r.fetchTile(ctx)))
	return ledger.LoggedEntry{Index: index, Data: data, Inclusion: p}, err
}

// Consistency proves that the published log extends the one of an older size.
func (r *Registry) Consistency(ctx context.Context, old, size int64) ([]ledger.Hash, error) {
	v := r.view.Load()
	if v == nil || size > v.checkpoint.Size {
		return nil, ErrNotReady
	}
	if old == 0 || old == size {
		return nil, nil
	}
	return tlog.ProveTree(size, old, v.edge.Reader(r.fetchTile(ctx)))
}

// RootAt returns the root of the log as it was at a size not above the
// published one.
func (r *Registry) RootAt(ctx context.Context, size int64) (ledger.Hash, error) {
	v := r.view.Load()
	if v == nil || size > v.checkpoint.Size {
		return ledger.Hash{}, ErrNotReady
	}
	return tlog.TreeHash(size, v.edge.Reader(r.fetchTile(ctx)))
}

// Entry implements Reader.
func (r *Registry) Entry(ctx context.Context, index int64) (ledger.Entry, ledger.Evidence, error) {
	v := r.view.Load()
	if v == nil {
		return nil, ledger.Evidence{}, ErrNotReady
	}
	if index < 0 || index >= v.checkpoint.Size {
		return nil, ledger.Evidence{}, ErrNotFound
	}
	l, err := r.load(ctx, index)
	if err != nil {
		return nil, ledger.Evidence{}, err
	}
	return l.entry, l.ev, nil
}

// Checkpoint implements Reader.
func (r *Registry) Checkpoint(ctx context.Context) ([]byte, error) {
	v := r.view.Load()
	if v == nil {
		return nil, ErrNotReady
	}
	return r.withCosignatures(ctx, v), nil
}

// withCosignatures adds the witnesses' lines; without the store, the note goes
// out with the log's own.
func (r *Registry) withCosignatures(ctx context.Context, v *view) []byte {
	if !r.opt.Witnessed {
		return v.note
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	lines, err := r.store.Cosignatures(ctx, v.checkpoint.Size)
	if err != nil {
		return v.note
	}
	note := v.note
	for _, l := range lines {
		note = ledger.MergeSignatures(note, l)
	}
	return note
}

// AddCosignature keeps a witness's signature line of the checkpoint of a size.
// The caller has verified it.
func (r *Registry) AddCosignature(ctx context.Context, size int64, witness string, line []byte) error {
	return r.store.AddCosignature(ctx, size, witness, line)
}

// WaitCheckpoint implements Reader.
func (r *Registry) WaitCheckpoint(ctx context.Context, after int64) ([]byte, error) {
	for {
		v := r.view.Load()
		if v == nil {
			return nil, ErrNotReady
		}
		if v.checkpoint.Size > after {
			return r.withCosignatures(ctx, v), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-v.next:
		}
	}
}

// Resource implements Reader.
func (r *Registry) Resource(ctx context.Context, id ledger.TileID) ([]byte, error) {
	v := r.view.Load()
	if v == nil {
		return nil, ErrNotReady
	}
	if id.Width < 1 || id.Width > ledger.PartialWidth(id.Level, id.N, v.checkpoint.Size) {
		return nil, ErrNotFound
	}
	if id.Resource == ledger.ResourceTile {
		return v.edge.TileData(id.Level, id.N, id.Width, r.fetchTile(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	first := id.N * ledger.TileWidth
	var out []byte
	var err error
	if id.Resource == ledger.ResourceEntries {
		err = r.store.Entries(ctx, first, first+int64(id.Width), func(_ int64, b []byte) error {
			out = ledger.AppendEntryBundle(out, b)
			return nil
		})
	} else {
		err = r.store.Evidence(ctx, first, first+int64(id.Width), func(_ int64, ev ledger.Evidence) error {
			out = ledger.AppendEvidenceBundle(out, ev)
			return nil
		})
	}
	if err != nil {
		return nil, notReady(err)
	}
	return out, nil
}

// VKeys implements Reader.
func (r *Registry) VKeys() []string {
	v := r.view.Load()
	if v == nil {
		return nil
	}
	out := make([]string, 0, len(v.vkeys))
	for i := len(v.vkeys) - 1; i >= 0; i-- {
		out = append(out, v.vkeys[i])
	}
	return out
}

// Status implements Reader.
func (r *Registry) Status() Status {
	s := Status{QueueLength: len(r.queue)}
	if v := r.view.Load(); v != nil {
		s.Origin, s.Size, s.Names = v.checkpoint.Origin, v.checkpoint.Size, v.names
		s.CheckpointAt, s.Ready = v.millis.Time(), true
	}
	if t := r.trouble.Load(); t != nil {
		s.Reason = t.reason
		s.ReadOnly = t.final
		s.Ready = s.Ready && t.final
	}
	if r.mirror() {
		s.ReadOnly = true
	}
	return s
}

// trouble is why the registry does not write now; final is until a restart.
type trouble struct {
	reason string
	final  bool
	since  time.Time
}
