package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledger/logtree"
	"github.com/jirani/jirani/nameserver/ledger/prefixtree"
	"github.com/jirani/jirani/nameserver/store"
)

// Registry is the ledger of one store, in memory and on disk. It is safe for
// concurrent use.
type Registry struct {
	opt     Options
	log     *slog.Logger
	store   store.Store
	origin  string
	tree    *prefixtree.Tree
	tiles   *cache[tileKey, *logtree.Tile]
	records *cache[int64, *logged]
	queue   chan *request
	verify  chan struct{} // a place for each RSA verification under way

	view    atomic.Pointer[view] // changes only inside the tree's commit
	trouble atomic.Pointer[trouble]
	heard   atomic.Int64 // when a mirror last knew to be up to date, Unix ms

	mu      sync.Mutex // held by whoever extends the log: sequencer, catch-up, ingest
	head    head       // of what the store holds and this process has checked
	ahead   *stage     // a mirror's stored entries beyond the published ones
	key     ledger.SigningKey
	guarded bool // the rollback guard has passed
}

var (
	_ Reader = (*Registry)(nil)
	_ Writer = (*Registry)(nil)
)

func (o Options) withDefaults() Options {
	setDefault(&o.MaxBatch, 1024)
	setDefault(&o.Queue, 8192)
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.MaxStale, 10*time.Second)
	setDefault(&o.Poll, 250*time.Millisecond)
	setDefault(&o.Verifiers, runtime.GOMAXPROCS(0))
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Create makes a new log in an empty store: the key's genesis entry and the
// first map root, signed. The log's origin is the key's name.
func Create(ctx context.Context, st store.Store, key ledger.SigningKey, now time.Time) error {
	s := newStage(head{}, key.Name(), prefixtree.New(), nil)
	genesis := ledger.AppendEntry(nil, ledger.NewGenesisEntry(key, ledger.Millis(now.UnixMilli())))
	if _, err := s.add(genesis); err != nil {
		return err
	}
	b := store.Batch{Entries: [][]byte{genesis}, Evidence: make([]ledger.Evidence, 1)}
	if err := s.seal(&b, store.State{Origin: key.Name()}, key); err != nil {
		return err
	}
	return st.Init(ctx, b)
}

// CreateMirror makes an empty mirror of the log of that origin.
func CreateMirror(ctx context.Context, st store.Store, origin string) error {
	return st.Init(ctx, store.Batch{Next: store.State{Origin: origin}})
}

// Open reads the whole log of the store, recomputes its root and its map and
// compares both with what the store's checkpoint signs. It starts nothing.
func Open(ctx context.Context, opt Options) (*Registry, error) {
	opt = opt.withDefaults()
	r := &Registry{
		opt: opt, log: opt.Log, store: opt.Store, key: opt.Key,
		tree:    prefixtree.New(),
		tiles:   newCache[tileKey, *logtree.Tile](opt.CacheBytes / 2),
		records: newCache[int64, *logged](opt.CacheBytes / 2),
		queue:   make(chan *request, opt.Queue),
		verify:  make(chan struct{}, opt.Verifiers),
	}
	st, err := opt.Store.State(ctx)
	if err != nil {
		return nil, err
	}
	r.origin = st.Origin
	if !r.mirror() && opt.Key.Name() != st.Origin {
		return nil, fmt.Errorf("registry: key is of %q, log is %q", opt.Key.Name(), st.Origin)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r, r.extendTo(ctx, st, true)
}

func (r *Registry) mirror() bool { return r.opt.Key.IsZero() }

// extendTo brings the head from what it is to the published state st, whose
// entries are in the store, and publishes. Entries that a mirror stored beyond
// are left in r.ahead. The caller holds r.mu.
func (r *Registry) extendTo(ctx context.Context, st store.State, bulk bool) error {
	if r.ahead != nil {
		return nil // a mirror feeds itself
	}
	at := r.head.edge.Size()
	if st.Size < at || st.PubSize < at {
		return r.freeze(fmt.Errorf("%w: store went back from %d to %d", ErrInconsistent, at, st.PubSize))
	}
	if st.PubSize > at {
		s := newStage(r.head, r.origin, r.tree, r.fetchTile(ctx))
		s.bulk = bulk
		if err := r.replay(ctx, s, st.PubSize); err != nil {
			s.rollback()
			return r.maybeFreeze(err)
		}
		if err := r.publish(s, st.PubCheckpoint); err != nil {
			return r.freeze(err)
		}
	}
	if st.Size > st.PubSize && r.mirror() {
		s := newStage(r.head, r.origin, r.tree, r.fetchTile(ctx))
		if err := r.replay(ctx, s, st.Size); err != nil {
			s.rollback()
			return r.maybeFreeze(err)
		}
		r.ahead = s
	}
	return nil
}

// maxFull bounds the full tiles held for the cache during a replay.
const maxFull = 512

// replay adds the store's entries up to size end to s. One goroutine reads,
// parses and hashes while this one enters them into log and map; it ends with
// the call.
func (r *Registry) replay(ctx context.Context, s *stage, end int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := make(chan []parsed, 4)
	var readErr error
	first := s.size()
	go func() {
		defer close(chunks)
		readErr = r.readParsed(ctx, first, end, chunks)
	}()
	for chunk := range chunks {
		for _, p := range chunk {
			if err := s.addParsed(p.entry, p.data, p.leaf); err != nil {
				return err
			}
		}
		if len(s.log.Full) > maxFull {
			s.log.Full = nil // they are in the store
		}
	}
	return readErr
}

// parsed is an entry on its way from the store into a stage.
type parsed struct {
	data  []byte
	entry ledger.Entry
	leaf  ledger.Hash
}

// readParsed sends the store's entries in [first, end) in chunks.
func (r *Registry) readParsed(ctx context.Context, first, end int64, chunks chan<- []parsed) error {
	const perChunk = 2048
	var chunk []parsed
	send := func() error {
		select {
		case chunks <- chunk:
			chunk = make([]parsed, 0, perChunk)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := r.store.Entries(ctx, first, end, func(i int64, b []byte) error {
		e, err := parseAt(i, b)
		if err != nil {
			return err
		}
		p := parsed{entry: e, leaf: ledger.LeafHash(b)}
		if e.Kind() == ledger.KindMapRoot {
			p.data = bytes.Clone(b) // the last of them is kept
		}
		if chunk = append(chunk, p); len(chunk) < perChunk {
			return nil
		}
		return send()
	})
	if err != nil || len(chunk) == 0 {
		return err
	}
	return send()
}

// publish makes s, ending in the checkpoint note, what readers see. It checks
// the note against the entries. The caller holds r.mu.
func (r *Registry) publish(s *stage, signed []byte) error {
	root, err := s.finish()
	if err != nil {
		s.rollback()
		return err
	}
	c, err := openBy(signed, r.origin, s.vkeys)
	if err == nil && (c.Size != s.size() || c.Root != root) {
		err = fmt.Errorf("%w: checkpoint says %d %v, entries give %d %v", ErrInconsistent, c.Size, c.Root, s.size(), root)
	}
	if err != nil {
		s.rollback()
		return err
	}
	r.show(s, c, signed)
	return nil
}

// show makes s, which c and its note sign, what readers see. The caller holds
// r.mu.
func (r *Registry) show(s *stage, c ledger.Checkpoint, signed []byte) {
	for _, f := range s.log.Full {
		r.tiles.put(tileKey{f.Level, f.N}, f.Tile, logtree.TileBytes)
	}
	v := &view{head: s.result(), checkpoint: c, note: signed, next: make(chan struct{})}
	old := r.view.Load()
	s.tx.Commit(func() { r.view.Store(v) })
	r.head = v.head
	if old != nil {
		close(old.next)
	}
}

// openBy opens a checkpoint that must be signed by the last of the keys.
func openBy(signed []byte, origin string, vkeys []string) (ledger.Checkpoint, error) {
	if len(vkeys) == 0 {
		return ledger.Checkpoint{}, fmt.Errorf("%w: log without a key", ErrInconsistent)
	}
	v, err := ledger.ParseVerifier(vkeys[len(vkeys)-1])
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	c, _, err := ledger.OpenCheckpoint(signed, origin, note.VerifierList(v))
	return c, err
}

// maybeFreeze freezes for an inconsistency and passes on what a retry may cure.
func (r *Registry) maybeFreeze(err error) error {
	if errors.Is(err, ErrInconsistent) || errors.Is(err, ledger.ErrCheckpoint) {
		return r.freeze(err)
	}
	return notReady(err)
}

// freeze stops writing until a person has looked; reads go on from the last
// good version.
func (r *Registry) freeze(err error) error {
	if t := r.trouble.Load(); t == nil || !t.final {
		r.trouble.Store(&trouble{reason: err.Error(), final: true, since: r.opt.Now()})
		r.log.Error("ledger frozen", "err", err)
	}
	return err
}

func (r *Registry) frozen() bool {
	t := r.trouble.Load()
	return t != nil && t.final
}

func (r *Registry) readState(ctx context.Context) (store.State, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.store.State(ctx)
}

// refresh catches up with what other writers of the store published.
func (r *Registry) refresh(ctx context.Context) error {
	if r.view.Load() == nil {
		return ErrNotReady
	}
	if r.mirror() { // fed by Ingest in this process
		if at := r.heard.Load(); at == 0 || r.opt.Now().UnixMilli()-at > r.opt.MaxStale.Milliseconds() {
			return fmt.Errorf("%w: mirror has not heard from its source", ErrNotReady)
		}
		return nil
	}
	st, err := r.readState(ctx)
	if err != nil {
		return notReady(err)
	}
	if st.PubSize == r.view.Load().checkpoint.Size {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.PubSize < r.head.edge.Size() {
		return nil // read before another goroutine caught up
	}
	return r.extendTo(ctx, st, false)
}
