package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	path := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%d odd?name%%20#.db", n)) }
	storetest.Run(t, storetest.Engine{
		Open: func(tb testing.TB, n int) store.Store { return open(tb, path(n), Options{}) },
		Exec: func(ctx context.Context, tb testing.TB, n int, sql string) error {
			_, err := open(tb, path(n), Options{}).db.write.ExecContext(ctx, sql)
			return err
		},
	})
	if fi, err := os.Stat(path(0)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("file mode = %v, %v", fi, err)
	}
}

func open(tb testing.TB, path string, opt Options) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), path, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// TestDurability checks on an open connection what the promise rests on.
func TestDurability(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "x.db"), Options{})
	var journal string
	var sync int
	if err := s.db.write.QueryRow("PRAGMA journal_mode").Scan(&journal); err != nil || journal != "wal" {
		t.Errorf("journal_mode = %q, %v", journal, err)
	}
	if err := s.db.write.QueryRow("PRAGMA synchronous").Scan(&sync); err != nil || sync != 2 {
		t.Errorf("synchronous = %d, %v; want FULL", sync, err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path, Options{})
	if _, err := s.db.write.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}); err == nil {
		t.Error("a file of a newer program was opened")
	}
}
