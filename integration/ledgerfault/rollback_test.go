package ledgerfault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

// TestRestoredBackup puts an old copy of the database back. The copy is
// consistent in itself; the checkpoint kept apart tells.
func TestRestoredBackup(t *testing.T) {
	dir := t.TempDir()
	path, published := filepath.Join(dir, "names.db"), filepath.Join(dir, "published")
	key := ledgertest.NewSigningKey(t, testOrigin)
	opt := func(db string) registry.Options {
		return registry.Options{Store: openSQLite(t, db, sqlite.Options{}), Key: key, Published: published}
	}
	first := opt(path)
	create(t, first.Store, key)
	r, stop := start(t, first)
	a, lost := &acks{}, &acks{}
	load(t.Context(), []*registry.Registry{r}, 4, 0, 50, 30*time.Second, a)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := first.Store.Close(); err != nil { // empties the write-ahead log
		t.Fatal(err)
	}
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, stop = start(t, opt(path))
	load(t.Context(), []*registry.Registry{r}, 4, 50, 60, 30*time.Second, lost)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(dir, "restored.db")
	if err := os.WriteFile(restored, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ = start(t, opt(restored))
	if _, err := r.RegisterVerified(t.Context(), ledgertest.Shape(55)); !errors.Is(err, registry.ErrReadOnly) {
		t.Fatalf("a rolled-back ledger gives a name away again: %v", err)
	}
	if s := r.Status(); !s.ReadOnly || !strings.Contains(s.Reason, "behind a published checkpoint") {
		t.Errorf("status = %+v", s)
	}
	a.check(t, r) // reads go on
}
