package registry

import (
	"context"
	"database/sql"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/store"
)

// tenMillionEnv names the file of the ledger that BenchmarkTenMillion works
// on, some 4 GB; it is built if it is not there, in some minutes.
const tenMillionEnv = "JIRANI_LEDGER_10M"

// BenchmarkTenMillion measures a cold start with ten million names, and
// registrations on top of them beside such in a small ledger.
func BenchmarkTenMillion(b *testing.B) {
	path := os.Getenv(tenMillionEnv)
	if path == "" {
		b.Skip(tenMillionEnv + " is not set to a file to build or use")
	}
	const names = 10_000_000
	if _, err := os.Stat(path + ".key"); err != nil {
		seed(b, path, names)
	}
	text, err := os.ReadFile(path + ".key")
	if err != nil {
		b.Fatal(err)
	}
	key, err := ledger.ParseSigningKey(string(text))
	if err != nil {
		b.Fatal(err)
	}
	st := openSQLite(b, path)
	opt := Options{Store: st, Key: key}
	b.Run("cold-start", func(b *testing.B) {
		for b.Loop() {
			begun, wall := cpu(), time.Now()
			r, err := Open(context.WithoutCancel(b.Context()), opt)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpu() - begun).Seconds(), "cpu-s")
			b.ReportMetric(time.Since(wall).Seconds(), "wall-s")
			b.ReportMetric(float64(r.tree.MemoryBytes())/float64(r.tree.Len()), "B/key")
		}
		runtime.GC()
	})
	b.Run("registration", func(b *testing.B) {
		small, stop := start(b, Options{Store: emptyLedger(b, key), Key: key})
		register(b, small, 256, 0, 1000)
		few := perRegistration(b, small, 1000, 21_000)
		stop()
		large, stop := start(b, opt)
		from := int(large.Status().Names)
		register(b, large, 256, from, from+1000)
		many := perRegistration(b, large, from+1000, from+21_000)
		stop()
		b.ReportMetric(few, "cpu-µs-at-1k")
		b.ReportMetric(many, "cpu-µs-at-10M")
		b.ReportMetric(many/few, "ratio")
	})
}

func emptyLedger(b *testing.B, key ledger.SigningKey) store.Store {
	st := openSQLite(b, b.TempDir()+"/small.db")
	if err := Create(b.Context(), st, key, time.Now()); err != nil {
		b.Fatal(err)
	}
	return st
}

// seed builds a ledger of n names as a busy writer leaves it, a map root after
// every 1,024 of them. Evidence is left out, and the index of names is filled
// at the end, since neither is what is measured and both take most of the time.
func seed(b *testing.B, path string, n int) {
	key := ledgertest.NewSigningKey(b, testOrigin)
	st := openSQLite(b, path)
	if err := Create(b.Context(), st, key, time.Now()); err != nil {
		b.Fatal(err)
	}
	r, err := Open(b.Context(), Options{Store: st, Key: key})
	if err != nil {
		b.Fatal(err)
	}
	const perCommit = 64 << 10
	for i := 0; i < n; i += perCommit {
		if err := seedCommit(b.Context(), r, i, min(i+perCommit, n)); err != nil {
			b.Fatal(err)
		}
	}
	seedNames(b, path, r, n)
	if err := os.WriteFile(path+".key", []byte(key.Encode()), 0o600); err != nil {
		b.Fatal(err)
	}
}

func seedCommit(ctx context.Context, r *Registry, from, to int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := newStage(r.head, r.origin, r.tree, r.fetchTile(ctx))
	var batch store.Batch
	add := func(e ledger.Entry) error {
		data := ledger.AppendEntry(nil, e)
		batch.Entries, batch.Evidence = append(batch.Entries, data), append(batch.Evidence, ledger.Evidence{})
		return s.addParsed(e, data, ledger.LeafHash(data))
	}
	for i := from; i < to; i++ {
		e, _, err := ledger.NewRegister(ledgertest.Shape(i), s.millis)
		if err == nil {
			err = add(e)
		}
		if err != nil {
			return err
		}
		if i%1024 == 1023 && i+1 < to {
			root, err := s.mapRootEntry()
			if err == nil {
				err = add(root)
			}
			if err != nil {
				return err
			}
		}
	}
	tx, err := r.store.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := s.seal(&batch, tx.State(), r.key); err != nil {
		return err
	}
	if err := tx.Commit(ctx, batch); err != nil {
		return err
	}
	r.show(s, ledger.Checkpoint{Origin: r.origin, Size: batch.Next.Size, Root: batch.Next.Root}, batch.Next.PubCheckpoint)
	return nil
}

// seedNames fills the index of names by the ledger, in the order of the table;
// that of addresses is made afterwards, which sorts it.
func seedNames(b *testing.B, path string, r *Registry, n int) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)&_pragma=busy_timeout(10000)&_pragma=cache_size(-262144)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(q string, args ...any) {
		if _, err := db.Exec(q, args...); err != nil {
			b.Fatal(err)
		}
	}
	exec("DROP INDEX name_addr")
	const rows, perTx = 100, 1000
	insert := "INSERT INTO name (key, addr, idx) VALUES " + strings.TrimSuffix(strings.Repeat("(?,?,?),", rows), ",")
	args := make([]any, 0, 3*rows)
	for i := range n {
		if i%(rows*perTx) == 0 {
			exec("BEGIN")
		}
		reg := ledgertest.Shape(i)
		f, ok := r.tree.Get(ledger.NameKey(reg.Name))
		if !ok {
			b.Fatalf("%s is not in the map", reg.Name)
		}
		if args = append(args, reg.Name, reg.Address[:], f.Index); len(args) == cap(args) {
			exec(insert, args...)
			args = args[:0]
		}
		if i%(rows*perTx) == rows*perTx-1 {
			exec("COMMIT")
		}
	}
	exec("CREATE UNIQUE INDEX name_addr ON name (addr) WHERE addr IS NOT NULL")
	b.Logf("seeded %d names", n)
}
