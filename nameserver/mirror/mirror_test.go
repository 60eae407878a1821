package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testOrigin = "ns.example/names"

func newStore(tb testing.TB) store.Store {
	tb.Helper()
	st, err := sqlite.Open(tb.Context(), filepath.Join(tb.TempDir(), "names.db"), sqlite.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { st.Close() })
	return st
}

// run runs f until the test ends or the function returned is called.
func run(tb testing.TB, f func(context.Context) error) (stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var err error
	once := sync.OnceFunc(func() { cancel(); err = <-done })
	tb.Cleanup(once)
	return func() error { once(); return err }
}

type writer struct {
	*registry.Registry
	key   ledger.SigningKey
	store store.Store
	url   string
	stop  func() error
}

func newWriter(tb testing.TB, key ledger.SigningKey) *writer {
	tb.Helper()
	w := &writer{key: key, store: newStore(tb)}
	if err := registry.Create(tb.Context(), w.store, key, time.Now()); err != nil {
		tb.Fatal(err)
	}
	w.open(tb)
	return w
}

func (w *writer) open(tb testing.TB, guards ...registry.CheckpointSource) {
	tb.Helper()
	var err error
	if w.Registry, err = registry.Open(tb.Context(), registry.Options{Store: w.store, Key: w.key, Guards: guards}); err != nil {
		tb.Fatal(err)
	}
	w.stop = run(tb, w.Run)
	srv := httptest.NewServer(registry.NewHandler(w.Registry))
	tb.Cleanup(srv.Close)
	w.url = srv.URL
}

func (w *writer) register(tb testing.TB, names ...string) {
	tb.Helper()
	for i, n := range names {
		if _, err := w.Register(tb.Context(), ledgertest.NewAccount(tb, i).Register(tb, n)); err != nil {
			tb.Fatalf("register %s: %v", n, err)
		}
	}
}

func newMirror(tb testing.TB, st store.Store, src Source, vkeys ...string) *Follower {
	tb.Helper()
	f, err := New(Options{Source: src, VKeys: vkeys, EvidenceDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	if err := registry.CreateMirror(tb.Context(), st, f.origin); err != nil && !errors.Is(err, store.ErrExists) {
		tb.Fatal(err)
	}
	if f.opt.Registry, err = registry.Open(tb.Context(), registry.Options{Store: st}); err != nil {
		tb.Fatal(err)
	}
	return f
}

func httpSource(tb testing.TB, url string) *HTTPSource {
	c := &http.Client{Transport: &http.Transport{}}
	tb.Cleanup(c.CloseIdleConnections)
	return &HTTPSource{URL: url, Client: c}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not so after 20 s", what)
		}
		<-tick.C
	}
}

func TestFollow(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	w.register(t, "alice", "bob")
	st := newStore(t)
	f := newMirror(t, st, httpSource(t, w.url), w.key.VKey())
	r := f.opt.Registry
	if _, err := r.LookupName(t.Context(), "nobody"); !errors.Is(err, registry.ErrNotReady) {
		t.Errorf("miss in an empty mirror = %v, want not ready", err)
	}
	stop := run(t, f.Run)
	eventually(t, "mirror has both names", func() bool { return r.Status().Size == w.Status().Size })
	reg := ledgertest.NewAccount(t, 2).Register(t, "carol")
	if _, err := w.Register(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "mirror has the third", func() bool { _, err := r.LookupName(t.Context(), "carol"); return err == nil })
	t.Logf("seen after %v", time.Since(begun))
	rec, err := r.LookupName(t.Context(), "carol")
	if err != nil || !bytes.Equal(rec.PublicKey, reg.PublicKey) || !bytes.Equal(rec.Signature, reg.Signature) {
		t.Errorf("mirror serves %+v, %v", rec, err)
	}
	if _, err := r.LookupName(t.Context(), "nobody"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("miss in a fresh mirror = %v", err)
	}
	if _, err := r.Register(t.Context(), reg); !errors.Is(err, registry.ErrReadOnly) {
		t.Errorf("register with a mirror = %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// A second opening reads and checks what the first stored.
	f = newMirror(t, st, httpSource(t, w.url), w.key.VKey())
	if got := f.opt.Registry.Status(); got.Names != 3 {
		t.Errorf("reopened mirror has %+v", got)
	}
}

func TestKeyRotationIsFollowed(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	f := newMirror(t, newStore(t), httpSource(t, w.url), w.key.VKey())
	w.register(t, "alice")
	if err := f.Step(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the mirror sees no checkpoint that the first key signed
		if err := w.RotateKey(t.Context(), ledgertest.NewSigningKey(t, testOrigin)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Register(t.Context(), ledgertest.NewAccount(t, 5).Register(t, "zoe")); err != nil {
		t.Fatal(err)
	}
	if err := f.Step(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got, want := f.opt.Registry.VKeys(), w.VKeys(); len(got) != 3 || got[0] != want[0] {
		t.Errorf("keys = %v, want %v", got, want)
	}
	stranger := newMirror(t, newStore(t), httpSource(t, w.url), ledgertest.NewSigningKey(t, testOrigin).VKey())
	if err := stranger.Step(t.Context(), false); !errors.Is(err, ledger.ErrCheckpoint) || stranger.opt.Registry.Status().Size != 0 {
		t.Errorf("mirror that trusts another key: %v", err)
	}
}

// TestEquivocation has a source change over to another log of the same key,
// once longer and once as long.
func TestEquivocation(t *testing.T) {
	key := ledgertest.NewSigningKey(t, testOrigin)
	for _, extra := range []int{0, 2} {
		honest, other := newWriter(t, key), newWriter(t, key)
		honest.register(t, "alice")
		other.register(t, []string{"mallory", "eve", "trent"}[:1+extra]...)
		src := httpSource(t, honest.url)
		f := newMirror(t, newStore(t), src, key.VKey())
		if err := f.Step(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		size := f.opt.Registry.Status().Size
		src.URL = other.url
		if err := f.Run(t.Context()); !errors.Is(err, ErrEquivocation) {
			t.Fatalf("run = %v, want equivocation", err)
		}
		st := f.opt.Registry.Status()
		if st.Size != size || !st.ReadOnly || st.Reason == "" {
			t.Errorf("mirror did not freeze: %+v", st)
		}
		if _, err := f.opt.Registry.LookupName(t.Context(), "alice"); err != nil {
			t.Errorf("frozen mirror serves no reads: %v", err)
		}
		notes, _ := filepath.Glob(filepath.Join(f.opt.EvidenceDir, "*.note"))
		if len(notes) != 2 {
			t.Fatalf("notes kept: %v", notes)
		}
		ring, _ := ledger.KeyRing(key.VKey())
		for _, n := range notes {
			b, _ := os.ReadFile(n)
			if _, _, err := ledger.OpenCheckpoint(b, testOrigin, ring); err != nil {
				t.Errorf("%s: %v", n, err)
			}
		}
	}
}

// tampered is a source that changes what passes through it.
type tampered struct {
	Source
	change func(path string, b []byte) []byte
}

func (s tampered) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := s.Source.Get(ctx, path, limit)
	if err == nil {
		b = s.change(path, bytes.Clone(b))
	}
	return b, err
}

func TestTamperedSource(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	w.register(t, "alice", "bob")
	for _, part := range []string{"checkpoint", "tile/entries/", "tile/evidence/", "tile/0/"} {
		for _, how := range []string{"flip", "cut", "empty"} {
			src := tampered{httpSource(t, w.url), func(path string, b []byte) []byte {
				if !strings.HasPrefix(path, part) {
					return b
				}
				switch how {
				case "flip":
					b[len(b)/2] ^= 1
				case "cut":
					b = b[:len(b)-1]
				default:
					b = nil
				}
				return b
			}}
			f := newMirror(t, newStore(t), src, w.key.VKey())
			if err := f.Step(t.Context(), false); err == nil {
				t.Errorf("%s of %s passed", how, part)
			}
			if st, err := f.opt.Registry.Status(), error(nil); st.Size != 0 || f.opt.Registry.StoredSize() != 0 {
				t.Errorf("%s of %s: stored %d entries, %v", how, part, f.opt.Registry.StoredSize(), err)
			}
		}
	}
}

func TestExportRestorePromote(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	for i := range 600 { // two full bundles
		if _, err := w.RegisterVerified(t.Context(), ledgertest.Shape(i)); err != nil {
			t.Fatal(err)
		}
		if i == 300 {
			break
		}
	}
	dir := t.TempDir()
	c, err := Export(t.Context(), w, dir)
	if err != nil || c.Size != w.Status().Size {
		t.Fatalf("export = %+v, %v", c, err)
	}
	// The log grew after the export, and somebody mirrored that.
	w.register(t, "alice")
	ahead := Guard{httpSource(t, w.url)}
	st := newStore(t)
	opt := RestoreOptions{Store: st, Source: DirSource(dir), VKeys: []string{w.key.VKey()}, Guards: []registry.CheckpointSource{ahead}, SkipSignatures: true}
	if _, err := Restore(t.Context(), opt); !errors.Is(err, ErrBehind) {
		t.Fatalf("restore of an old export beside a newer mirror = %v", err)
	}
	opt.Guards = nil
	if size, err := Restore(t.Context(), opt); err != nil || size != c.Size {
		t.Fatalf("restore = %d, %v", size, err)
	}
	// A writer on the restored store finds the mirror ahead and signs nothing.
	back := &writer{key: w.key, store: st}
	back.open(t, ahead)
	if _, err := back.Register(t.Context(), ledgertest.NewAccount(t, 7).Register(t, "greta")); !errors.Is(err, registry.ErrReadOnly) {
		t.Fatalf("register on a rolled-back store = %v", err)
	}
	if s := back.Status(); !s.ReadOnly || !strings.Contains(s.Reason, "behind") {
		t.Errorf("status = %+v", s)
	}
	_ = back.stop()
	// Replay the tail from the mirror; then it may.
	opt.Source, opt.SkipSignatures = httpSource(t, w.url), false
	if _, err := Restore(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	_ = w.stop()
	if err := registry.Promote(t.Context(), registry.Options{Store: st, Guards: []registry.CheckpointSource{ahead}}, w.key); err != nil {
		t.Fatal(err)
	}
	back.open(t, ahead)
	if _, err := back.Register(t.Context(), ledgertest.NewAccount(t, 7).Register(t, "greta")); err != nil {
		t.Fatal(err)
	}
	if _, err := back.LookupName(t.Context(), "alice"); err != nil {
		t.Errorf("name of the tail: %v", err)
	}
}

func TestVerifyAndImport(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	w.register(t, "alice", "bob", "carol")
	if err := w.Burn(t.Context(), "admin", "reserved"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Export(t.Context(), w, dir); err != nil {
		t.Fatal(err)
	}
	sum, err := Verify(t.Context(), DirSource(dir), []string{w.key.VKey()})
	if err != nil || sum.Names != 3 || sum.Keys != 7 {
		t.Errorf("verify = %+v, %v", sum, err)
	}
	if _, err := Verify(t.Context(), DirSource(dir), []string{ledgertest.NewSigningKey(t, testOrigin).VKey()}); err == nil {
		t.Error("verified with a key that is not the log's")
	}
	next := newWriter(t, ledgertest.NewSigningKey(t, "ns.example/second"))
	for range 2 { // a repeat does nothing
		if n, err := Import(t.Context(), DirSource(dir), []string{w.key.VKey()}, next.Registry); err != nil || n != 3 {
			t.Fatalf("import = %d, %v", n, err)
		}
	}
	if rec, err := next.LookupName(t.Context(), "bob"); err != nil || rec.Address != ledgertest.NewAccount(t, 1).Address() {
		t.Errorf("imported name = %+v, %v", rec, err)
	}
	if got := next.Status(); got.Names != 3 {
		t.Errorf("status = %+v", got)
	}
}

// TestManyChunks follows a log of several chunks while the follower's store
// fails now and then.
func TestManyChunks(t *testing.T) {
	w := newWriter(t, ledgertest.NewSigningKey(t, testOrigin))
	const n = 9000
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if _, err := w.RegisterVerified(t.Context(), ledgertest.Shape(int(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	f := newMirror(t, newStore(t), httpSource(t, w.url), w.key.VKey())
	f.opt.SkipSignatures = true
	if err := f.Step(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if a, b := w.Status(), f.opt.Registry.Status(); a.Size != b.Size || b.Names != n {
		t.Errorf("mirror has %+v, writer %+v", b, a)
	}
	p, err := f.opt.Registry.Prove(t.Context(), ledger.Subject{Name: fmt.Sprintf("user-%09d", n/2)})
	if err != nil {
		t.Fatal(err)
	}
	p.Evidence = nil
	ring, _ := ledger.KeyRing(w.key.VKey())
	if _, err := p.Verify(testOrigin, ring); err != nil {
		t.Error(err)
	}
}
