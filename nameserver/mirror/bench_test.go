package mirror

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
)

// BenchmarkBootstrap has an empty mirror follow an export of 100,000 names
// from files, without the RSA verification (which costs the same wherever it
// is done, 200 µs or less each), once kept in memory only and once stored.
func BenchmarkBootstrap(b *testing.B) {
	const names = 100_000
	w := newWriter(b, ledgertest.NewSigningKey(b, testOrigin))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 512 {
		wg.Go(func() {
			for n := next.Add(1); n <= names; n = next.Add(1) {
				if _, err := w.RegisterVerified(b.Context(), ledgertest.Shape(int(n))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	dir := b.TempDir()
	c, err := Export(b.Context(), w, dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("stored", func(b *testing.B) {
		begun := cpu()
		for b.Loop() {
			f := newMirror(b, newStore(b), DirSource(dir), w.key.VKey())
			f.opt.SkipSignatures = true
			if err := f.Step(b.Context(), false); err != nil {
				b.Fatal(err)
			}
		}
		report(b, begun, c.Size)
	})
	b.Run("verified", func(b *testing.B) {
		begun := cpu()
		for b.Loop() {
			v := registry.NewVerifier(testOrigin)
			fetch := newFetcher(DirSource(dir), c, false)
			for at := int64(0); at < c.Size; {
				feed, err := fetch.chunk(b.Context(), at)
				if err != nil {
					b.Fatal(err)
				}
				if err := v.Add(feed); err != nil {
					b.Fatal(err)
				}
				at += int64(len(feed.Entries))
			}
		}
		report(b, begun, c.Size)
	})
}

func report(b *testing.B, begun time.Duration, entries int64) {
	used := cpu() - begun
	b.ReportMetric(float64(used.Nanoseconds())/float64(int64(b.N)*entries)/1000, "cpu-µs/entry")
	b.ReportMetric(float64(int64(b.N)*entries)/used.Seconds(), "entries/cpu-s")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
