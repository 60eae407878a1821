package mirror

import (
	"context"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
)

// BenchmarkLag has 64 clients register as fast as they can with a writer that
// a mirror follows over HTTP, and tells how long after its acknowledgement the
// mirror serves a name. Writer, mirror and clients share the machine.
func BenchmarkLag(b *testing.B) {
	w := newWriter(b, ledgertest.NewSigningKey(b, testOrigin))
	f := newMirror(b, newStore(b), httpSource(b, w.url), w.key.VKey())
	f.opt.SkipSignatures = true
	m := f.opt.Registry
	defer run(b, f.Run)()
	eventually(b, "mirror has begun", func() bool { return m.Status().Size > 0 })
	ctx, cancel := context.WithCancel(b.Context())
	var served []publication
	var watch sync.WaitGroup
	watch.Go(func() { served = watchSizes(ctx, m) })

	b.ResetTimer()
	acked := registerAll(b, w)
	b.StopTimer()
	eventually(b, "mirror has all", func() bool { return m.Status().Size == w.Status().Size })
	cancel()
	watch.Wait()
	lag := make([]time.Duration, len(acked))
	for i, a := range acked {
		at := sort.Search(len(served), func(i int) bool { return served[i].size > a.size })
		lag[i] = max(0, served[at].at.Sub(a.at))
	}
	slices.Sort(lag)
	b.ReportMetric(lag[len(lag)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(lag[len(lag)*99/100].Seconds()*1000, "p99-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reg/s")
}

// publication is when a log was known to be of a size.
type publication struct {
	size int64
	at   time.Time
}

// watchSizes notes every checkpoint a registry publishes until ctx is done.
func watchSizes(ctx context.Context, r *registry.Registry) (all []publication) {
	for size := r.Status().Size; ; {
		if _, err := r.WaitCheckpoint(ctx, size); err != nil {
			return all
		}
		size = r.Status().Size
		all = append(all, publication{size, time.Now()})
	}
}

// registerAll registers b.N names and returns where and when each was
// acknowledged.
func registerAll(b *testing.B, w *writer) []publication {
	acked := make([]publication, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < b.N; n = int(next.Add(1)) - 1 {
				rec, err := w.RegisterVerified(b.Context(), ledgertest.Shape(n))
				if err != nil {
					b.Error(err)
					return
				}
				acked[n] = publication{rec.Index, time.Now()}
			}
		})
	}
	wg.Wait()
	return acked
}
