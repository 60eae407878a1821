package turnserver

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const guardSlots = 4096 // sources told apart; others share: 64 KiB for any number of senders

// guard bounds how many unauthenticated datagrams of one source address are answered, in memory that does not grow. A nil guard bounds
// nothing. It is safe for concurrent use.
type guard struct {
	rate float64 // answers per second, and the burst
	seed maphash.Seed

	mu    sync.Mutex
	slots [guardSlots]guardSlot // guarded by mu
}

type guardSlot struct {
	tokens float64
	last   int64 // nanoseconds since began
}

var guardBegan = time.Now()

func newGuard(rate int) *guard {
	if rate == 0 {
		return nil
	}
	g := &guard{rate: float64(rate), seed: maphash.MakeSeed()}
	for i := range g.slots {
		g.slots[i].tokens = g.rate
	}
	return g
}

// allow reports whether one more answer may go to addr.
func (g *guard) allow(addr netip.Addr, now time.Time) bool {
	if g == nil {
		return true
	}
	i := maphash.Comparable(g.seed, site(addr)) % guardSlots
	at := int64(now.Sub(guardBegan))
	g.mu.Lock()
	defer g.mu.Unlock()
	slot := &g.slots[i]
	if d := at - slot.last; d > 0 {
		slot.tokens = min(g.rate, slot.tokens+float64(d)/float64(time.Second)*g.rate)
		slot.last = at
	}
	if slot.tokens < 1 {
		return false
	}
	slot.tokens--
	return true
}

// site is what counts as one client: an IPv4 address, or an IPv6 network of 64 bits, any address of which one host can take.
func site(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
