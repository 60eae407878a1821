package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "ns.example/names"

// toy is a log in memory.
type toy struct {
	key    ledger.SigningKey
	hashes []tlog.Hash
	size   int64
}

func (l *toy) ReadHashes(idx []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(idx))
	for i, n := range idx {
		out[i] = l.hashes[n]
	}
	return out, nil
}

func (l *toy) grow(n int, salt string) *toy {
	for range n {
		more, _ := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", salt, l.size), l)
		l.hashes, l.size = append(l.hashes, more...), l.size+1
	}
	return l
}

func (l *toy) checkpoint(tb testing.TB, size int64) []byte {
	tb.Helper()
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: l.key.Name(), Size: size, Root: root}, l.key.Signer())
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

func (l *toy) request(tb testing.TB, old, size int64) string {
	tb.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < size {
		p, err := tlog.ProveTree(size, old, l)
		if err != nil {
			tb.Fatal(err)
		}
		for _, h := range p {
			fmt.Fprintf(&b, "%v\n", h)
		}
	}
	return b.String() + "\n" + string(l.checkpoint(tb, size))
}

func post(w http.Handler, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	return rec
}

// TestSteps walks the specification's steps (C2SP tlog-witness,
// add-checkpoint).
func TestSteps(t *testing.T) {
	key, wkey := ledgertest.NewSigningKey(t, origin), ledgertest.NewSigningKey(t, "w.example")
	dir := t.TempDir()
	w, err := New(wkey, []string{key.VKey()}, dir)
	if err != nil {
		t.Fatal(err)
	}
	honest := (&toy{key: key}).grow(20, "a")
	forked := (&toy{key: key}).grow(20, "b")
	stranger := (&toy{key: ledgertest.NewSigningKey(t, "other.example")}).grow(5, "a")
	impostor := (&toy{key: ledgertest.NewSigningKey(t, origin)}).grow(5, "a")
	badProof := strings.Replace(honest.request(t, 5, 9), "\n\n", "\n"+ledger.Hash{}.String()+"\n\n", 1)
	for _, tc := range []struct {
		name, body string
		status     int
		answer     string
	}{
		{"unknown log", stranger.request(t, 0, 5), 404, ""},
		{"wrong key", impostor.request(t, 0, 5), 403, ""},
		{"not a request", "old\n\n", 400, ""},
		{"leading zero", strings.Replace(honest.request(t, 0, 5), "old 0", "old 00", 1), 400, ""},
		{"first size not zero", honest.request(t, 3, 5), 409, "0\n"},
		{"first", honest.request(t, 0, 5), 200, ""},
		{"again from zero", honest.request(t, 0, 5), 409, "5\n"},
		{"repeat", honest.request(t, 5, 5), 200, ""},
		{"old above", strings.Replace(honest.request(t, 5, 5), "old 5", "old 6", 1), 400, ""},
		{"fork of equal size", forked.request(t, 5, 5), 409, "5\n"},
		{"fork", forked.request(t, 5, 9), 422, ""},
		{"proof too long", badProof, 422, ""},
		{"64 lines", strings.Replace(honest.request(t, 5, 9), "\n", strings.Repeat("\n"+ledger.Hash{}.String(), 64)+"\n", 1), 400, ""},
		{"growth", honest.request(t, 5, 20), 200, ""},
		{"going back", honest.request(t, 5, 9), 409, "20\n"},
	} {
		rec := post(w, tc.body)
		if rec.Code != tc.status || tc.answer != "" && rec.Body.String() != tc.answer {
			t.Errorf("%s: %d %q, want %d %q", tc.name, rec.Code, rec.Body, tc.status, tc.answer)
		}
		if tc.status == 409 && rec.Header().Get("Content-Type") != "text/x.tlog.size" {
			t.Errorf("%s: content type %q", tc.name, rec.Header().Get("Content-Type"))
		}
		if tc.status == 200 {
			checkLine(t, wkey, tc.body, rec.Body.Bytes())
		}
	}
	// What it signed outlives the process.
	if w, err = New(wkey, []string{key.VKey()}, dir); err != nil {
		t.Fatal(err)
	}
	if rec := post(w, honest.request(t, 0, 20)); rec.Code != 409 || rec.Body.String() != "20\n" {
		t.Errorf("after a restart: %d %q", rec.Code, rec.Body)
	}
}

func checkLine(t *testing.T, wkey ledger.SigningKey, body string, line []byte) {
	t.Helper()
	_, cp, _ := strings.Cut(body, "\n\n")
	v, err := ledger.ParseWitness(wkey.VKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(append([]byte(cp), line...), note.VerifierList(v))
	if err != nil || len(n.Sigs) != 1 {
		t.Errorf("cosignature: %v", err)
	}
}

func TestConcurrentSubmissions(t *testing.T) {
	key := ledgertest.NewSigningKey(t, origin)
	w, err := New(ledgertest.NewSigningKey(t, "w.example"), []string{key.VKey()}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := (&toy{key: key}).grow(40, "a")
	post(w, l.request(t, 0, 1))
	var wg sync.WaitGroup
	for size := int64(2); size <= 40; size++ {
		body := l.request(t, 1, size)
		wg.Go(func() { post(w, body) })
	}
	wg.Wait()
	last, err := w.last(origin)
	if err != nil || last.Size < 2 {
		t.Fatalf("last = %+v, %v", last, err)
	}
	for size := int64(2); size <= 40; size++ {
		if rec := post(w, l.request(t, 1, size)); rec.Code != 409 {
			t.Errorf("a second checkpoint from size 1 was signed: %d", rec.Code)
		}
	}
}

func FuzzRequest(f *testing.F) {
	l := (&toy{key: ledgertest.NewSigningKey(f, origin)}).grow(9, "a")
	f.Add([]byte(l.request(f, 3, 9)))
	f.Add([]byte("old 0\n\nx\n0\n"))
	w, err := New(ledgertest.NewSigningKey(f, "w.example"), []string{l.key.VKey()}, f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := w.add(b); err != nil {
			var no *refusal
			if !errors.As(err, &no) {
				t.Error(err)
			}
		}
	})
}

// TestClient has a registry's checkpoints cosigned by two witnesses over HTTP,
// and then shows them a rolled-back log.
func TestClient(t *testing.T) {
	key := ledgertest.NewSigningKey(t, origin)
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := registry.Create(t.Context(), st, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), registry.Options{Store: st, Key: key, Witnessed: true})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	var peers []*Peer
	var verifiers []note.Verifier
	for _, name := range []string{"w1.example", "w2.example"} {
		wk := ledgertest.NewSigningKey(t, name)
		w, err := New(wk, []string{key.VKey()}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(w)
		t.Cleanup(srv.Close)
		p, err := NewPeer(srv.URL+"/", wk.VKey(), client)
		if err != nil {
			t.Fatal(err)
		}
		peers, verifiers = append(peers, p), append(verifiers, p.verifier)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() { _ = NewClient(r, peers, nil).Run(ctx) })
	defer wg.Wait()
	defer cancel()
	ring, _ := ledger.KeyRing(key.VKey())
	for i := range 3 {
		if _, err := r.RegisterVerified(t.Context(), ledgertest.Shape(i)); err != nil {
			t.Fatal(err)
		}
		awaitCosigned(t, r, ring, verifiers)
	}
	old := (&toy{key: key}).grow(1, "a").checkpoint(t, 1)
	if seen, err := peers[0].SeenSize(t.Context(), old, 1); err != nil || seen != r.Status().Size {
		t.Errorf("witness has seen %d, %v; the log is %d", seen, err, r.Status().Size)
	}
}

func awaitCosigned(t *testing.T, r *registry.Registry, ring note.Verifiers, witnesses []note.Verifier) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		signed, err := r.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, n, err := ledger.OpenCheckpoint(signed, origin, ring, witnesses...)
		if err == nil && len(n.Sigs) == 1+len(witnesses) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not cosigned: %v\n%s", err, bytes.TrimSpace(signed))
		}
		<-tick.C
	}
}
