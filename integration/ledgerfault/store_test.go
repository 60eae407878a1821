package ledgerfault

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlite"
	"github.com/jirani/jirani/nameserver/store/storetest"
)

// TestEveryCallFails has every third of one kind of call fail, or some of all
// kinds, by turns before and after it took effect, and expects clients to notice
// nothing but time.
func TestEveryCallFails(t *testing.T) {
	for _, call := range []string{"begin", "claim", "commit", "state", "entries", "evidence", "tile", "all"} {
		t.Run(call, func(t *testing.T) {
			var n atomic.Int64
			var off atomic.Bool
			inner := openSQLite(t, filepath.Join(t.TempDir(), "names.db"), sqlite.Options{})
			faulty := &storetest.Faulty{Store: inner, Decide: func(c string) storetest.Fault {
				if off.Load() || c != call && call != "all" {
					return storetest.NoFault
				}
				every := int64(6)
				if call == "all" {
					every = 26 // a commit takes several calls
				}
				switch n.Add(1) % every {
				case 0:
					return storetest.FailBefore
				case every / 2:
					return storetest.FailAfter
				}
				return storetest.NoFault
			}}
			off.Store(true)
			key := ledgertest.NewSigningKey(t, testOrigin)
			create(t, faulty, key)
			r, stop := start(t, registry.Options{Store: faulty, Key: key, CacheBytes: 1 << 15})
			o := observe(t, key.VKey())
			o.see(registry.NewHandler(r))
			off.Store(false)
			a := &acks{}
			if failed := load(t.Context(), []*registry.Registry{r}, 16, 0, 400, 30*time.Second, a); failed > 0 && call != "entries" && call != "evidence" && call != "tile" && call != "all" {
				t.Errorf("%d registrations failed", failed)
			}
			off.Store(true)
			if s := r.Status(); s.ReadOnly {
				t.Fatalf("frozen: %s", s.Reason)
			}
			a.check(t, r)
			o.agrees(t, r)
			if err := stop(); err != nil {
				t.Error(err)
			}
			again, err := registry.Open(t.Context(), registry.Options{Store: inner, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			a.check(t, again)
		})
	}
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	key := ledgertest.NewSigningKey(t, testOrigin)
	create(t, openSQLite(t, path, sqlite.Options{}), key)
	small := openSQLite(t, path, sqlite.Options{MaxPages: 110})
	r, stop := start(t, registry.Options{Store: small, Key: key})
	o := observe(t, key.VKey())
	o.see(registry.NewHandler(r))
	a := &acks{}
	if failed := load(t.Context(), []*registry.Registry{r}, 8, 0, 400, 150*time.Millisecond, a); failed == 0 || a.len() == 0 {
		t.Fatalf("%d registrations failed, %d went through: the disk was not full, or always", failed, a.len())
	}
	// The last few names of the load may just have fitted: go on until the last thing heard is that the disk is full.
	for i := 400; i < 1000 && r.Status().Ready; i += 20 {
		load(t.Context(), []*registry.Registry{r}, 8, i, i+20, 150*time.Millisecond, a)
	}
	if s := r.Status(); s.Ready || s.ReadOnly || s.Reason == "" {
		t.Errorf("status on a full disk = %+v", s)
	}
	a.check(t, r) // reads go on
	if err := stop(); err != nil {
		t.Error(err)
	}
	r, _ = start(t, registry.Options{Store: openSQLite(t, path, sqlite.Options{MaxPages: 1 << 30}), Key: key})
	o.see(registry.NewHandler(r))
	if failed := load(t.Context(), []*registry.Registry{r}, 8, 1000, 1100, 30*time.Second, a); failed > 0 {
		t.Errorf("%d registrations failed with room again", failed)
	}
	a.check(t, r)
	o.agrees(t, r)
}

func TestClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	key := ledgertest.NewSigningKey(t, testOrigin)
	st := openSQLite(t, path, sqlite.Options{})
	create(t, st, key)
	var shift atomic.Int64
	now := func() time.Time { return time.Now().Add(-time.Duration(shift.Load())) }
	r, _ := start(t, registry.Options{Store: st, Key: key, Now: now})
	o := observe(t, key.VKey())
	o.see(registry.NewHandler(r))
	a := &acks{}
	for i, back := range []time.Duration{0, time.Hour, 20 * 365 * 24 * time.Hour, time.Minute} {
		shift.Store(int64(back))
		if failed := load(t.Context(), []*registry.Registry{r}, 4, 20*i, 20*(i+1), 30*time.Second, a); failed > 0 {
			t.Errorf("clock %v back: %d registrations failed", back, failed)
		}
	}
	var last time.Time
	if err := st.Entries(t.Context(), 0, r.Status().Size, func(i int64, b []byte) error {
		e, err := ledger.ParseEntry(b)
		if err == nil && e.Time().Before(last) {
			t.Errorf("entry %d is of %v, after one of %v", i, e.Time(), last)
		}
		last = e.Time()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	a.check(t, r)
	o.agrees(t, r)
}

// raceFor has every replica ask for each name for an account of its own; one
// must win and all others hear that the name is taken.
func raceFor(t *testing.T, rs []*registry.Registry, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		var wg sync.WaitGroup
		var won, taken atomic.Int64
		for i, r := range rs {
			wg.Go(func() {
				reg := ledgertest.Shape(1_000_000 + n*10 + i)
				reg.Name = ledgertest.Shape(2_000_000 + n).Name
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				switch _, err := r.RegisterVerified(ctx, reg); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, registry.ErrTaken):
					taken.Add(1)
				default:
					t.Errorf("race: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || taken.Load() != int64(len(rs)-1) {
			t.Errorf("name %d: %d won, %d heard it is taken", n, won.Load(), taken.Load())
		}
	}
}

// TestTwoProcessesOneFile has two registries, each with its own opening of the
// file, as server and command line have.
func TestTwoProcessesOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	key := ledgertest.NewSigningKey(t, testOrigin)
	create(t, openSQLite(t, path, sqlite.Options{}), key)
	var rs []*registry.Registry
	for range 2 {
		var st store.Store = openSQLite(t, path, sqlite.Options{})
		r, _ := start(t, registry.Options{Store: st, Key: key})
		rs = append(rs, r)
	}
	o := observe(t, key.VKey())
	o.see(registry.NewHandler(rs[0]))
	a := &acks{}
	if failed := load(t.Context(), rs, 16, 0, 300, 30*time.Second, a); failed > 0 {
		t.Errorf("%d registrations failed", failed)
	}
	raceFor(t, rs, 0, 20)
	for _, r := range rs {
		a.check(t, r)
	}
	o.agrees(t, rs[1])
}
