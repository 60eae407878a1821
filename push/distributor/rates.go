package distributor

import (
	"net/netip"
	"sync"
	"time"
)

// rates is a token bucket per address, of one minute's depth. Buckets that are full again are forgotten: an entry
// that was not touched for a whole generation of a minute is.
type rates struct {
	step time.Duration

	mu         sync.Mutex
	young, old map[netip.Addr]time.Time // virtual times (GCRA)
	turned     time.Time
}

func newRates(perMinute int) *rates {
	return &rates{step: time.Minute / time.Duration(perMinute), young: make(map[netip.Addr]time.Time)}
}

// take spends one message and returns 0, or how long to wait.
func (r *rates) take(a netip.Addr, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.turned) > time.Minute {
		r.old, r.young, r.turned = r.young, make(map[netip.Addr]time.Time), now
	}
	at, ok := r.young[a]
	if !ok {
		at = r.old[a]
	}
	if at.Before(now) {
		at = now
	}
	if wait := at.Add(r.step - time.Minute).Sub(now); wait > 0 {
		return wait
	}
	r.young[a] = at.Add(r.step)
	return 0
}
