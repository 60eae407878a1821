package ledgerfault

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/mirror"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

const testOrigin = "ns.example/names"

// TestMain runs the test binary as one of the children below when asked to.
func TestMain(m *testing.M) {
	if role := os.Getenv("FAULTTEST_CHILD"); role != "" {
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}

func openSQLite(tb testing.TB, path string, opt sqlite.Options) store.Store {
	tb.Helper()
	st, err := sqlite.Open(tb.Context(), path, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { st.Close() })
	return st
}

func create(tb testing.TB, st store.Store, key ledger.SigningKey) {
	tb.Helper()
	if err := registry.Create(tb.Context(), st, key, time.Now()); err != nil {
		tb.Fatal(err)
	}
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

func start(tb testing.TB, opt registry.Options) (*registry.Registry, func() error) {
	tb.Helper()
	r, err := registry.Open(tb.Context(), opt)
	if err != nil {
		tb.Fatal(err)
	}
	return r, run(tb, r.Run)
}

// observer is a mirror that follows a handler which may change under it.
type observer struct {
	*registry.Registry
	f    *mirror.Follower
	stop func() error

	mu  sync.Mutex
	now http.Handler
}

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	h := o.now
	o.mu.Unlock()
	if h == nil {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	h.ServeHTTP(w, r)
}

// see points the observer at another server; nil is one that is down.
func (o *observer) see(h http.Handler) {
	o.mu.Lock()
	o.now = h
	o.mu.Unlock()
}

// observe starts a mirror. Signatures are not verified where the names are of
// ledgertest.Shape.
func observe(tb testing.TB, vkey string) *observer {
	tb.Helper()
	o := &observer{}
	srv := httptest.NewServer(o)
	tb.Cleanup(srv.Close)
	client := &http.Client{Transport: &http.Transport{}}
	tb.Cleanup(client.CloseIdleConnections)
	st := openSQLite(tb, filepath.Join(tb.TempDir(), "mirror.db"), sqlite.Options{})
	if err := registry.CreateMirror(tb.Context(), st, testOrigin); err != nil {
		tb.Fatal(err)
	}
	var err error
	if o.Registry, err = registry.Open(tb.Context(), registry.Options{Store: st}); err != nil {
		tb.Fatal(err)
	}
	o.f, err = mirror.New(mirror.Options{
		Registry: o.Registry, VKeys: []string{vkey}, SkipSignatures: true,
		Source: &mirror.HTTPSource{URL: srv.URL, Client: client},
	})
	if err != nil {
		tb.Fatal(err)
	}
	o.stop = run(tb, o.f.Run)
	return o
}

// agrees waits until the mirror has all of r, and compares the two.
func (o *observer) agrees(tb testing.TB, r *registry.Registry) {
	tb.Helper()
	want := r.Status()
	eventually(tb, "mirror catches up", func() bool { return o.Status().Size >= want.Size || o.Status().Reason != "" })
	if err := o.stop(); err != nil {
		tb.Fatalf("mirror: %v", err)
	}
	got := o.Status()
	a, _ := r.RootAt(tb.Context(), want.Size)
	b, _ := o.RootAt(tb.Context(), want.Size)
	if got.Reason != "" || got.Names != want.Names || a != b {
		tb.Errorf("mirror has %+v %v, writer %+v %v", got, b, want, a)
	}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not so after 60 s", what)
		}
		<-tick.C
	}
}

// acks remembers what was acknowledged.
type acks struct {
	mu    sync.Mutex
	index map[int]int64
}

func (a *acks) add(n int, index int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.index == nil {
		a.index = map[int]int64{}
	}
	a.index[n] = index
}

func (a *acks) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.index)
}

// check holds a registry to every acknowledgement.
func (a *acks) check(tb testing.TB, r *registry.Registry) {
	tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, index := range a.index {
		want := ledgertest.Shape(n)
		rec, err := r.LookupName(tb.Context(), want.Name)
		if err != nil || rec.Index != index || rec.Address != want.Address {
			tb.Errorf("%s was acknowledged at %d; now %+v, %v", want.Name, index, rec.Index, err)
		}
	}
}

// load registers the names [from, to) by some clients at once, each patient for
// as long as said, and notes what is acknowledged. Failures that a client would
// retry are counted.
func load(ctx context.Context, rs []*registry.Registry, clients, from, to int, patience time.Duration, a *acks) (failed int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for c := range clients {
		wg.Go(func() {
			for n := from + c; n < to && ctx.Err() == nil; n += clients {
				ctx, cancel := context.WithTimeout(ctx, patience)
				rec, err := rs[n%len(rs)].RegisterVerified(ctx, ledgertest.Shape(n))
				cancel()
				if err == nil {
					a.add(n, rec.Index)
					continue
				}
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}
