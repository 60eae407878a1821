package registry

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledger/prefixtree"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/postgres"
)

// cpu returns the processor time this process has used, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// register has clients register the shapes [from, to) and returns every
// latency.
func register(tb testing.TB, r *Registry, clients, from, to int) []time.Duration {
	tb.Helper()
	var wg sync.WaitGroup
	next := atomic.Int64{}
	next.Store(int64(from))
	all := make([]time.Duration, to-from)
	for range clients {
		wg.Go(func() {
			for n := int(next.Add(1) - 1); n < to; n = int(next.Add(1) - 1) {
				begun := time.Now()
				if _, err := r.RegisterVerified(tb.Context(), ledgertest.Shape(n)); err != nil {
					tb.Error(err)
					return
				}
				all[n-from] = time.Since(begun)
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}

func benchCommit(b *testing.B, open func(b *testing.B) store.Store) {
	for _, clients := range []int{1, 256, 2048} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			st := open(b)
			key := ledgertest.NewSigningKey(b, testOrigin)
			if err := Create(b.Context(), st, key, time.Now()); err != nil {
				b.Fatal(err)
			}
			r, stop := start(b, Options{Store: st, Key: key})
			begun := cpu()
			b.ResetTimer()
			all := register(b, r, clients, 0, b.N)
			b.StopTimer()
			used := cpu() - begun
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reg/s")
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/reg")
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			stop()
		})
	}
}

func BenchmarkCommitSQLite(b *testing.B) {
	benchCommit(b, func(b *testing.B) store.Store { return openSQLite(b, filepath.Join(b.TempDir(), "names.db")) })
}

// BenchmarkCommitPostgreSQL counts this process's CPU time only, as the server
// has its own cores in production.
func BenchmarkCommitPostgreSQL(b *testing.B) {
	srv := pgtest.Start(b)
	benchCommit(b, func(b *testing.B) store.Store {
		st, err := postgres.Open(b.Context(), srv.NewDatabase(b))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { st.Close() })
		return st
	})
}

// BenchmarkMillion fills a log with a million names, then measures on it: the
// cost of registrations against that in a small log, proofs, and a cold start.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	st := openSQLite(b, filepath.Join(b.TempDir(), "names.db"))
	key := ledgertest.NewSigningKey(b, testOrigin)
	if err := Create(b.Context(), st, key, time.Now()); err != nil {
		b.Fatal(err)
	}
	// Room for every tile (64 MiB per million entries), as a busy server has.
	r, stop := start(b, Options{Store: st, Key: key, CacheBytes: 192 << 20})
	register(b, r, 256, 0, 1000)
	small := perRegistration(b, r, 1000, 21_000)
	register(b, r, 1024, 21_000, million)
	large := perRegistration(b, r, million, million+20_000)
	names := r.Status().Names
	b.Run("registration", func(b *testing.B) {
		b.ReportMetric(small, "cpu-µs-at-1k")
		b.ReportMetric(large, "cpu-µs-at-1M")
		b.ReportMetric(large/small, "ratio")
	})
	b.Run("memory", func(b *testing.B) {
		b.ReportMetric(float64(r.tree.MemoryBytes())/float64(r.tree.Len()), "B/key")
	})
	b.Run("prove", func(b *testing.B) { benchProve(b, r, int(names)) })
	b.Run("prove-absent", func(b *testing.B) { benchProveAbsent(b, r) })
	b.Run("map-proof", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			key := ledger.NameKey(fmt.Sprintf("user-%09d", i*7919%int(names)))
			r.tree.View(func(v prefixtree.View) { v.Prove(key) })
		}
	})
	stop()
	b.Run("cold-start", func(b *testing.B) {
		begun := cpu()
		for b.Loop() {
			if _, err := Open(context.WithoutCancel(b.Context()), Options{Store: st, Key: key}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((cpu()-begun).Seconds()/float64(b.N), "cpu-s/op")
	})
}

func perRegistration(b *testing.B, r *Registry, from, to int) float64 {
	begun := cpu()
	register(b, r, 256, from, to)
	return float64((cpu() - begun).Microseconds()) / float64(to-from)
}

func benchProve(b *testing.B, r *Registry, names int) {
	hot := 4096 // as many as the cache holds with room
	var all []time.Duration
	for i := range hot {
		if _, err := r.Prove(b.Context(), ledger.Subject{Name: ledgertest.Shape(i * 211 % names).Name}); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		s := ledger.Subject{Name: ledgertest.Shape(i % hot * 211 % names).Name}
		begun := time.Now()
		if _, err := r.Prove(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(begun))
	}
	reportQuantiles(b, all)
}

func benchProveAbsent(b *testing.B, r *Registry) {
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		s := ledger.Subject{Name: fmt.Sprintf("absent-%d", i%4096)}
		begun := time.Now()
		if _, err := r.Prove(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(begun))
	}
	reportQuantiles(b, all)
}

func reportQuantiles(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1000, "p99-µs")
}
