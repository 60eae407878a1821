package policy

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// maxNetworks bounds the limiter's memory: about 20 MB when full. The network
// unseen for longest is then forgotten, which can only give it tokens early.
const maxNetworks = 1 << 17

// A Limiter is a token bucket per network. It is safe for concurrent use.
type Limiter struct {
	interval time.Duration // one token each
	burst    time.Duration // interval × tokens a full bucket holds
	bits4    int
	bits6    int
	exempt   []netip.Prefix

	mu       sync.Mutex
	networks map[netip.Prefix]*list.Element // guarded by mu
	recent   list.List                      // of *bucket, latest first; guarded by mu
}

// bucket is full when fullAt is not after now; each token taken moves fullAt
// by one interval.
type bucket struct {
	network netip.Prefix
	fullAt  time.Time
}

// NewLimiter returns a limiter by c's Rate fields, or nil, which limits
// nothing, if RateInterval is zero.
func NewLimiter(c Config) *Limiter {
	if c.RateInterval == 0 {
		return nil
	}
	return &Limiter{
		interval: c.RateInterval, burst: c.RateInterval * time.Duration(c.RateBurst),
		bits4: c.RatePrefix4, bits6: c.RatePrefix6, exempt: c.RateExempt,
		networks: make(map[netip.Prefix]*list.Element),
	}
}

// Take takes a token for the network of addr. If there is none it takes
// nothing and returns how long to wait for one; an address that is not valid
// is not limited.
func (l *Limiter) Take(now time.Time, addr netip.Addr) (wait time.Duration) {
	if l == nil || !addr.IsValid() {
		return 0
	}
	network, limited := l.network(addr.Unmap().WithZone(""))
	if !limited {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(network)
	if b.fullAt.Before(now) {
		b.fullAt = now
	}
	if limit := now.Add(l.burst); b.fullAt.After(limit) {
		b.fullAt = limit // the clock was set back: an empty bucket, not a debt of hours
	}
	next := b.fullAt.Add(l.interval)
	if wait = next.Sub(now) - l.burst; wait > 0 {
		return wait
	}
	b.fullAt = next
	return 0
}

// Networks returns how many networks are known.
func (l *Limiter) Networks() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.networks)
}

func (l *Limiter) network(addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range l.exempt {
		if p.Contains(addr) {
			return netip.Prefix{}, false
		}
	}
	bits := l.bits6
	if addr.Is4() {
		bits = l.bits4
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}

// bucket finds or makes the bucket of a network and marks it as seen. l.mu is
// held.
func (l *Limiter) bucket(network netip.Prefix) *bucket {
	if e, ok := l.networks[network]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if len(l.networks) >= maxNetworks {
		oldest := l.recent.Back()
		delete(l.networks, l.recent.Remove(oldest).(*bucket).network)
	}
	b := &bucket{network: network}
	l.networks[network] = l.recent.PushFront(b)
	return b
}
