package dhtinterop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// BenchmarkColdPut times the first put of a node that has just started, in a network of a dozen of theirs on loopback, until it is
// acknowledged everywhere. Ours is timed from its start, theirs from its prompt.
func BenchmarkColdPut(b *testing.B) {
	theirs.Require(b)
	n := freshNetwork()
	entry := theirs.StartNode(b, theirs.Options{Network: n})
	for range 11 {
		theirs.StartNode(b, theirs.Options{Network: n, Bootstrap: local(entry.Port)})
	}
	knows(b, entry, 8)
	<-time.After(30 * time.Second) // they get to know each other
	median := func(b *testing.B, put func(key string) time.Duration) {
		var took []time.Duration
		for b.Loop() {
			took = append(took, put(fmt.Sprintf("cold-%d", time.Now().UnixNano())))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-median")
		b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms-worst")
	}
	b.Run("ours", func(b *testing.B) {
		median(b, func(key string) time.Duration {
			start := time.Now()
			o := newOurs(b, dhtnode.Config{Network: n, Bootstrap: []string{local(entry.Port)}}, false)
			o.put(key, text("v"))
			defer o.stop()
			return time.Since(start)
		})
	})
	b.Run("theirs", func(b *testing.B) {
		median(b, func(key string) time.Duration {
			node := theirs.StartNode(b, theirs.Options{Network: n, Bootstrap: local(entry.Port)})
			start := time.Now()
			if _, err := node.Put(key, "v"); err != nil {
				b.Fatal(err)
			}
			defer node.Kill()
			return time.Since(start)
		})
	})
}
