package allocation

import (
	"sync"
	"time"
)

// Bucket is a token bucket over bytes: rate per second, and a burst of one second's worth but at least 64 KiB, so that the largest packet
// always fits. A nil Bucket limits nothing. It is safe for concurrent use.
type Bucket struct {
	rate, burst float64 // bytes per second, bytes

	mu     sync.Mutex
	tokens float64   // guarded by mu; negative while a stream that took ahead pays back
	last   time.Time // guarded by mu
}

const minBurst = 64 << 10 // bytes

// NewBucket returns a full bucket, or nil if rate is 0.
func NewBucket(rate int64, now time.Time) *Bucket {
	if rate <= 0 {
		return nil
	}
	burst := max(float64(rate), minBurst)
	return &Bucket{rate: float64(rate), burst: burst, tokens: burst, last: now}
}

// Take reports whether n bytes may pass now and takes them if so. Packets that may not are dropped whole.
func (b *Bucket) Take(n int, now time.Time) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

// Delay takes n bytes of a stream and returns how long to wait before the next ones may follow.
func (b *Bucket) Delay(n int, now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.tokens -= float64(n)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// fill adds what has come in since the last call. The caller holds mu.
func (b *Bucket) fill(now time.Time) {
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.burst, b.tokens+d.Seconds()*b.rate)
		b.last = now
	}
}
