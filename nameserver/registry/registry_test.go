package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testOrigin = "ns.example/names"

func openSQLite(tb testing.TB, path string) store.Store {
	tb.Helper()
	st, err := sqlite.Open(tb.Context(), path, sqlite.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { st.Close() })
	return st
}

// start opens and runs a registry until the test ends or the function returned
// is called.
func start(tb testing.TB, opt Options) (*Registry, func()) {
	tb.Helper()
	r, err := Open(tb.Context(), opt)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(stop)
	return r, stop
}

func newRegistry(tb testing.TB) (*Registry, Options) {
	tb.Helper()
	opt := Options{Store: openSQLite(tb, filepath.Join(tb.TempDir(), "names.db")), Key: ledgertest.NewSigningKey(tb, testOrigin)}
	if err := Create(tb.Context(), opt.Store, opt.Key, time.Now()); err != nil {
		tb.Fatal(err)
	}
	r, _ := start(tb, opt)
	return r, opt
}

func TestRegisterLookupProve(t *testing.T) {
	r, opt := newRegistry(t)
	ctx := t.Context()
	alice, bob := ledgertest.NewAccount(t, 0), ledgertest.NewAccount(t, 1)
	reg := alice.Register(t, "alice")
	rec, err := r.Register(ctx, reg)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Name != "alice" || !bytes.Equal(rec.PublicKey, reg.PublicKey) || !bytes.Equal(rec.Signature, reg.Signature) {
		t.Fatalf("record %+v is not what was registered", rec)
	}
	again, err := r.Register(ctx, reg)
	if err != nil || again.Index != rec.Index {
		t.Fatalf("repeat = %v %v, want index %d", again.Index, err, rec.Index)
	}
	for _, tc := range []struct {
		name string
		reg  ledger.Registration
		want error
	}{
		{"taken", bob.Register(t, "alice"), ErrTaken},
		{"second name", alice.Register(t, "alice2"), ErrAddressTaken},
		{"forged", func() ledger.Registration { g := bob.Register(t, "bob"); g.Name = "rob"; return g }(), ledger.ErrInvalidSignature},
		{"foreign address", func() ledger.Registration { g := bob.Register(t, "bob"); g.Address[0]++; return g }(), ledger.ErrInvalidKey},
	} {
		if _, err := r.Register(ctx, tc.reg); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if got, err := r.LookupName(ctx, "alice"); err != nil || got.Address != reg.Address {
		t.Errorf("lookup = %v %v", got, err)
	}
	if got, err := r.LookupAddress(ctx, reg.Address); err != nil || got.Name != "alice" {
		t.Errorf("reverse = %v %v", got, err)
	}
	if _, err := r.LookupName(ctx, "nobody"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent = %v", err)
	}
	addr, other := reg.Address, bob.Address()
	for _, s := range []ledger.Subject{{Name: "alice"}, {Address: &addr}, {Name: "nobody"}, {Address: &other}} {
		checkProof(t, r, opt.Key.VKey(), s)
	}
}

func checkProof(t *testing.T, r Reader, vkey string, s ledger.Subject) ledger.Verdict {
	t.Helper()
	p, err := r.Prove(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ring, _ := ledger.KeyRing(vkey)
	v, err := p.Verify(testOrigin, ring)
	if err != nil {
		t.Fatalf("proof of %+v: %v", s, err)
	}
	return v
}

func TestManyAndReopen(t *testing.T) {
	r, opt := newRegistry(t)
	const n = 1500
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			for i := g; i < n; i += 50 {
				if _, err := r.RegisterVerified(t.Context(), ledgertest.Shape(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	again, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := r.Status(), again.Status(); a.Size != b.Size || b.Names != n {
		t.Fatalf("reopened with %+v, was %+v", b, a)
	}
	for i := 0; i < n; i += 97 {
		v := checkProofUnsigned(t, again, opt.Key.VKey(), fmt.Sprintf("user-%09d", i))
		if v.Address != ledgertest.Shape(i).Address {
			t.Errorf("user %d is bound to %v", i, v.Address)
		}
	}
}

// checkProofUnsigned verifies a proof without its evidence.
func checkProofUnsigned(t *testing.T, r Reader, vkey, name string) *ledger.Register {
	t.Helper()
	p, err := r.Prove(t.Context(), ledger.Subject{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	p.Evidence = nil
	ring, _ := ledger.KeyRing(vkey)
	v, err := p.Verify(testOrigin, ring)
	if err != nil {
		t.Fatal(err)
	}
	if v.Register() == nil {
		t.Fatalf("%s is not in the log", name)
	}
	return v.Register()
}

func TestOperatorEntries(t *testing.T) {
	r, opt := newRegistry(t)
	ctx := t.Context()
	alice := ledgertest.NewAccount(t, 0)
	if _, err := r.Register(ctx, alice.Register(t, "alice")); err != nil {
		t.Fatal(err)
	}
	next := ledgertest.NewSigningKey(t, testOrigin)
	for _, err := range []error{
		r.Burn(ctx, "alice", "court order"), r.Burn(ctx, "admin", "reserved"), r.Burn(ctx, "admin", "again"),
		r.RecordPolicy(ctx, [32]byte{1}), r.RecordPolicy(ctx, [32]byte{1}), r.RotateKey(ctx, next),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.LookupName(ctx, "alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("burnt name: %v", err)
	}
	if _, err := r.LookupAddress(ctx, alice.Address()); !errors.Is(err, ErrNotFound) {
		t.Errorf("address of burnt name: %v", err)
	}
	if _, err := r.Register(ctx, ledgertest.NewAccount(t, 1).Register(t, "admin")); !errors.Is(err, ErrTaken) {
		t.Errorf("registering a burnt name: %v", err)
	}
	v := checkProof(t, r, next.VKey(), ledger.Subject{Name: "admin"})
	if v.Register() != nil || v.Entry.Kind() != ledger.KindTombstone {
		t.Errorf("proof of a burnt name shows %v", v.Entry)
	}
	// The old key opens the checkpoint of the rotation itself, no later one.
	if r.Status().Size != 2+2+2+2+2+2 {
		t.Errorf("size = %d: a repeated order was logged", r.Status().Size)
	}
	checkProof(t, r, opt.Key.VKey(), ledger.Subject{Name: "admin"})
	if _, err := r.Register(ctx, ledgertest.NewAccount(t, 2).Register(t, "carol")); err != nil {
		t.Fatal(err)
	}
	stale, err := Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	runCtx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- stale.Run(runCtx) }()
	if _, err := stale.Register(ctx, ledgertest.NewAccount(t, 3).Register(t, "dave")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("registering with the old key: %v", err)
	}
	cancel()
	<-done
}

// TestColdStartInPieces reads a log whose keys enter the map in many pieces,
// each while the next is read.
func TestColdStartInPieces(t *testing.T) {
	defer func(n int) { bulkItems = n }(bulkItems)
	bulkItems = 10
	st := openSQLite(t, filepath.Join(t.TempDir(), "names.db"))
	key := ledgertest.NewSigningKey(t, testOrigin)
	if err := Create(t.Context(), st, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	r, stop := start(t, Options{Store: st, Key: key})
	register(t, r, 8, 0, 203)
	stop()
	again, err := Open(t.Context(), Options{Store: st, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.Status(), r.Status(); got.Size != want.Size || got.Names != 203 || again.tree.Root() != r.tree.Root() {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
}
