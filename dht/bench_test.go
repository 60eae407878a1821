package dht_test

import (
	"runtime"
	"testing"

	"github.com/jirani/jirani/dht"
)

func BenchmarkParseValue(b *testing.B) {
	plain := (&dht.Value{ID: 1 << 60, UserType: "text/plain", Data: make([]byte, 200)}).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := dht.ParseValue(plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendValue(b *testing.B) {
	v := &dht.Value{ID: 1 << 60, UserType: "text/plain", Data: make([]byte, 200)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = v.Append(buf[:0])
	}
}

// BenchmarkValueMemory reports what a parsed 200-byte value holds.
func BenchmarkValueMemory(b *testing.B) {
	plain := (&dht.Value{ID: 1 << 60, Data: make([]byte, 200)}).Append(nil)
	for b.Loop() {
		const n = 100_000
		values := make([]*dht.Value, n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range values {
			values[i], _, _ = dht.ParseValue(plain)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/value")
		runtime.KeepAlive(values)
	}
}
