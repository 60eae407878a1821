// Package storetest holds the engines of package store to what it promises,
// and has a store that fails on command.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// Engine is what a conformance run is given.
type Engine struct {
	// Open opens an empty database, the same one for the same n.
	Open func(tb testing.TB, n int) store.Store
	// Exec runs SQL on the database n, past the engine.
	Exec func(ctx context.Context, tb testing.TB, n int, sql string) error
}

// Run runs the suite.
func Run(t *testing.T, e Engine) {
	for i, tc := range []struct {
		name string
		f    func(t *testing.T, e Engine, n int)
	}{
		{"init", testInit}, {"append", testAppend}, {"claim", testClaim}, {"rollback", testRollback},
		{"writers exclude each other", testExclusion}, {"append-only", testAppendOnly},
		{"invites", testInvites}, {"reservations", testReservations}, {"cosignatures", testCosignatures},
		{"cancelled writers let go", testCancelled},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.f(t, e, i) })
	}
}

func address(n int) *ledger.Address {
	return &ledger.Address{byte(n), byte(n >> 8), 1}
}

// batch makes n entries after the state st, some with evidence, and a tile.
func batch(st store.State, n int) store.Batch {
	b := store.Batch{Next: st}
	for i := range n {
		at := st.Size + int64(i)
		b.Entries = append(b.Entries, fmt.Appendf(nil, "entry %d", at))
		ev := ledger.Evidence{}
		if i%3 != 2 {
			ev = ledger.Evidence{PublicKey: fmt.Appendf(nil, "key %d", at), Signature: fmt.Appendf(nil, "sig %d", at)}
		}
		b.Evidence = append(b.Evidence, ev)
	}
	b.Tiles = []store.Tile{{Level: 0, N: st.Size, Data: bytes.Repeat([]byte{byte(st.Size)}, 8192)}}
	b.Next.Origin = "ns.example"
	b.Next.Size += int64(n)
	b.Next.Root, b.Next.MapRoot = ledger.Hash{byte(b.Next.Size)}, ledger.Hash{1, byte(n)}
	b.Next.PubSize, b.Next.PubCheckpoint = b.Next.Size, fmt.Appendf(nil, "checkpoint %d", b.Next.Size)
	b.Next.VKey = "vkey"
	return b
}

func created(t *testing.T, e Engine, n int) (store.Store, store.Batch) {
	t.Helper()
	s := e.Open(t, n)
	b := batch(store.State{}, 2)
	if err := s.Init(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return s, b
}

func testInit(t *testing.T, e Engine, n int) {
	s := e.Open(t, n)
	if _, err := s.State(t.Context()); !errors.Is(err, store.ErrNoLedger) {
		t.Errorf("state of nothing = %v", err)
	}
	if _, err := s.Begin(t.Context()); !errors.Is(err, store.ErrNoLedger) {
		t.Errorf("begin on nothing = %v", err)
	}
	b := batch(store.State{}, 3)
	if err := s.Init(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Init(t.Context(), b); !errors.Is(err, store.ErrExists) {
		t.Errorf("second init = %v", err)
	}
	for range 2 { // a second opening finds the same
		got, err := s.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b.Next, got); d != "" {
			t.Error(d)
		}
		s = e.Open(t, n)
	}
}

func testAppend(t *testing.T, e Engine, n int) {
	s, b := created(t, e, n)
	entries, evidence := slices.Clone(b.Entries), slices.Clone(b.Evidence)
	for _, size := range []int{1, 300, 2, 65} {
		tx, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(b.Next, tx.State()); d != "" {
			t.Fatal(d)
		}
		b = batch(tx.State(), size)
		if err := tx.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		tx.Rollback()
		entries, evidence = append(entries, b.Entries...), append(evidence, b.Evidence...)
	}
	readBack(t, s, entries, evidence)
	tile, err := s.Tile(t.Context(), 0, 3)
	if err != nil || len(tile) != 8192 || tile[0] != 3 {
		t.Errorf("tile = %d bytes, %v", len(tile), err)
	}
	if _, err := s.Tile(t.Context(), 1, 3); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("absent tile = %v", err)
	}
}

func readBack(t *testing.T, s store.Store, entries [][]byte, evidence []ledger.Evidence) {
	t.Helper()
	total := int64(len(entries))
	for _, r := range [][2]int64{{0, total}, {0, 0}, {5, 5}, {3, 4}, {total - 1, total}, {10, 200}} {
		var got [][]byte
		if err := s.Entries(t.Context(), r[0], r[1], func(i int64, b []byte) error {
			if want := r[0] + int64(len(got)); i != want {
				t.Errorf("index %d, want %d", i, want)
			}
			got = append(got, bytes.Clone(b))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, entries[r[0]:r[1]], bytes.Equal) {
			t.Errorf("entries %v differ", r)
		}
		var evs []ledger.Evidence
		if err := s.Evidence(t.Context(), r[0], r[1], func(_ int64, ev ledger.Evidence) error {
			evs = append(evs, ledger.Evidence{PublicKey: bytes.Clone(ev.PublicKey), Signature: bytes.Clone(ev.Signature)})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(evs, evidence[r[0]:r[1]], func(a, b ledger.Evidence) bool {
			return bytes.Equal(a.PublicKey, b.PublicKey) && bytes.Equal(a.Signature, b.Signature)
		}) {
			t.Errorf("evidence %v differs", r)
		}
	}
	if err := s.Entries(t.Context(), total-1, total+1, func(int64, []byte) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("reading past the end = %v", err)
	}
	stop := errors.New("stop")
	if err := s.Entries(t.Context(), 0, total, func(int64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("yield's error comes back as %v", err)
	}
}

func claim(t *testing.T, tx store.Tx, names ...store.Name) []store.Outcome {
	t.Helper()
	out, err := tx.Claim(t.Context(), time.Unix(1000, 0), names)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func begin(t *testing.T, s store.Store) store.Tx {
	t.Helper()
	tx, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Rollback)
	return tx
}

func testClaim(t *testing.T, e Engine, n int) {
	s, _ := created(t, e, n)
	tx := begin(t, s)
	first := []store.Name{
		{Index: 2, Key: "alice", Skeleton: "a1ice", Address: address(1)},
		{Index: 3, Key: "bob", Address: address(2)},
		{Index: 4, Key: "carol", Address: address(3)},
		{Index: 5, Key: "burnt"},
	}
	if got := claim(t, tx, first...); !slices.Equal(got, []store.Outcome{store.Won, store.Won, store.Won, store.Won}) {
		t.Fatalf("claim of free names = %v", got)
	}
	if err := tx.Commit(t.Context(), batch(tx.State(), 4)); err != nil {
		t.Fatal(err)
	}
	tx = begin(t, s)
	got := claim(t, tx,
		store.Name{Index: 10, Key: "alice", Address: address(10)},
		store.Name{Index: 11, Key: "alicé", Skeleton: "a1ice", Address: address(11)},
		store.Name{Index: 12, Key: "bob2", Address: address(2)},
		store.Name{Index: 13, Key: "burnt", Address: address(13)},
		store.Name{Index: 14, Key: "dave", Skeleton: "x", Address: address(14)},
		store.Name{Index: 15, Key: "dave2", Skeleton: "x", Address: address(15)},
		store.Name{Index: 16, Key: "ALICE", Address: address(16)},
		store.Name{Index: 17, Key: "alice"},
	)
	want := []store.Outcome{store.Taken, store.Taken, store.Taken, store.Taken, store.Won, store.Taken, store.Won, store.Won}
	if !slices.Equal(got, want) {
		t.Errorf("claim = %v, want %v", got, want)
	}
	tx.Rollback()
	for _, tc := range []struct {
		key, skeleton string
		want          bool
	}{{"alice", "", true}, {"alicé", "a1ice", true}, {"dave", "x", false}, {"zoe", "", false}} {
		if got, err := s.NameTaken(t.Context(), tc.key, tc.skeleton); err != nil || got != tc.want {
			t.Errorf("NameTaken(%q, %q) = %v, %v", tc.key, tc.skeleton, got, err)
		}
	}
}

func testRollback(t *testing.T, e Engine, n int) {
	s, b := created(t, e, n)
	tx := begin(t, s)
	claim(t, tx, store.Name{Index: 2, Key: "alice", Address: address(1)})
	tx.Rollback()
	tx.Rollback()
	if taken, _ := s.NameTaken(t.Context(), "alice", ""); taken {
		t.Error("claim outlived the rollback")
	}
	bad := batch(b.Next, 2)
	bad.Next.Size++
	tx = begin(t, s)
	if err := tx.Commit(t.Context(), bad); err == nil {
		t.Error("a batch with a hole was committed")
	}
	tx.Rollback()
	if st, err := s.State(t.Context()); err != nil || st.Size != b.Next.Size {
		t.Errorf("state = %+v, %v", st, err)
	}
}

// testExclusion has two stores on one database append side by side.
func testExclusion(t *testing.T, e Engine, n int) {
	a, b := created(t, e, n)
	other := e.Open(t, n)
	var wg sync.WaitGroup
	for _, s := range []store.Store{a, other} {
		for range 2 {
			wg.Go(func() {
				for range 25 {
					tx, err := s.Begin(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if err := tx.Commit(t.Context(), batch(tx.State(), 3)); err != nil {
						t.Error(err)
					}
					tx.Rollback()
				}
			})
		}
	}
	wg.Wait()
	st, err := other.State(t.Context())
	if want := b.Next.Size + 4*25*3; err != nil || st.Size != want {
		t.Fatalf("size = %d, %v; want %d", st.Size, err, want)
	}
	seen := int64(0)
	if err := a.Entries(t.Context(), 0, st.Size, func(i int64, b []byte) error {
		if string(b) != fmt.Sprintf("entry %d", i) {
			t.Errorf("entry %d is %q", i, b)
		}
		seen++
		return nil
	}); err != nil || seen != st.Size {
		t.Error(seen, err)
	}
}

func testAppendOnly(t *testing.T, e Engine, n int) {
	s, _ := created(t, e, n)
	tx := begin(t, s)
	claim(t, tx, store.Name{Index: 2, Key: "alice", Address: address(1)})
	if err := tx.Commit(t.Context(), batch(tx.State(), 2)); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"UPDATE ledger_entry SET data = data WHERE idx = 0", "DELETE FROM ledger_entry WHERE idx = 3",
		"UPDATE ledger_evidence SET sig = sig", "DELETE FROM ledger_evidence",
		"UPDATE ledger_tile SET data = data", "DELETE FROM ledger_tile",
		"UPDATE name SET key = 'mallory'", "DELETE FROM name",
		"DELETE FROM ledger_state", "UPDATE ledger_state SET size = size - 1", "UPDATE ledger_state SET pub_size = 1",
		"INSERT INTO ledger_entry SELECT idx, data FROM ledger_entry WHERE idx = 0",
	} {
		if err := e.Exec(t.Context(), t, n, sql); err == nil {
			t.Errorf("%s: the database let it happen", sql)
		}
	}
}

func testInvites(t *testing.T, e Engine, n int) {
	s, _ := created(t, e, n)
	ctx := t.Context()
	inv := store.Invite{TokenHash: [32]byte{1}, UsesLeft: 1, Note: "for the choir"}
	old := store.Invite{TokenHash: [32]byte{2}, UsesLeft: 5, ExpiresAt: time.Unix(999, 0).UTC()}
	for _, i := range []store.Invite{inv, old} {
		if err := s.CreateInvite(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.ListInvites(ctx); err != nil || cmp.Diff([]store.Invite{inv, old}, got) != "" {
		t.Errorf("invites = %+v, %v", got, err)
	}
	tx := begin(t, s)
	got := claim(t, tx,
		store.Name{Index: 2, Key: "a", Address: address(1), Invite: inv.TokenHash[:]},
		store.Name{Index: 3, Key: "b", Address: address(2), Invite: inv.TokenHash[:]},
		store.Name{Index: 4, Key: "c", Address: address(3), Invite: old.TokenHash[:]},
		store.Name{Index: 5, Key: "d", Address: address(4), Invite: make([]byte, 32)})
	if want := []store.Outcome{store.Won, store.NoInvite, store.NoInvite, store.NoInvite}; !slices.Equal(got, want) {
		t.Errorf("claims = %v, want %v", got, want)
	}
	tx.Rollback()
	tx = begin(t, s)
	claim(t, tx, store.Name{Index: 2, Key: "a", Address: address(1), Invite: inv.TokenHash[:]})
	if err := tx.Commit(ctx, batch(tx.State(), 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Invite(ctx, inv.TokenHash); err != nil || got.UsesLeft != 0 {
		t.Errorf("spent invite = %+v, %v", got, err)
	}
	if err := s.RevokeInvite(ctx, inv.TokenHash); err != nil {
		t.Error(err)
	}
	for _, err := range []error{s.RevokeInvite(ctx, inv.TokenHash), func() error { _, err := s.Invite(ctx, inv.TokenHash); return err }()} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("revoked invite: %v", err)
		}
	}
}

func testReservations(t *testing.T, e Engine, n int) {
	s, _ := created(t, e, n)
	ctx := t.Context()
	for _, r := range []store.Reservation{{Key: "root", Note: "x"}, {Key: "admin", Note: "ours"}, {Key: "root", Note: "ours"}} {
		if err := s.Reserve(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	want := []store.Reservation{{Key: "admin", Note: "ours"}, {Key: "root", Note: "ours"}}
	if got, err := s.ListReservations(ctx); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("reservations = %+v, %v", got, err)
	}
	if err := s.Unreserve(ctx, "root"); err != nil {
		t.Error(err)
	}
	if _, err := s.Reserved(ctx, "root"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("lifted reservation: %v", err)
	}
	if got, err := s.Reserved(ctx, "admin"); err != nil || got != want[0] {
		t.Errorf("reservation = %+v, %v", got, err)
	}
}

func testCosignatures(t *testing.T, e Engine, n int) {
	s, _ := created(t, e, n)
	ctx := t.Context()
	for _, c := range []struct{ witness, line string }{{"w2", "b"}, {"w1", "a"}, {"w2", "c"}} {
		if err := s.AddCosignature(ctx, 2, c.witness, []byte(c.line)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Cosignatures(ctx, 2)
	if err != nil || len(got) != 2 || string(got[0]) != "a" || string(got[1]) != "c" {
		t.Errorf("cosignatures = %q, %v", got, err)
	}
	if got, err := s.Cosignatures(ctx, 3); err != nil || len(got) != 0 {
		t.Errorf("cosignatures of another size = %q, %v", got, err)
	}
}

func testCancelled(t *testing.T, e Engine, n int) {
	s, b := created(t, e, n)
	ctx, cancel := context.WithCancel(t.Context())
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := tx.Commit(ctx, batch(tx.State(), 1)); err == nil {
		t.Error("committed under a cancelled context")
	}
	tx.Rollback()
	tx = begin(t, s)
	if tx.State().Size != b.Next.Size {
		t.Errorf("size = %d after a cancelled commit, want %d", tx.State().Size, b.Next.Size)
	}
	if err := tx.Commit(t.Context(), batch(tx.State(), 1)); err != nil {
		t.Error(err)
	}
}
