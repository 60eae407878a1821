package dhtnode

import (
	"net/netip"
	"time"
)

// maxSources bounds the sources a rate limiter remembers. It is far above what the global limit lets in within its
// window, so that only a limiter without global limit ever meets it.
const maxSources = 1 << 16

// rateLimiter counts requests in a sliding window of one second, for each source and for all together
// (docs/protocols/opendht.md §13.1). The window slides in halves: the count of the window before is weighed by how much
// of it is still in sight.
type rateLimiter struct {
	perSource, global int // requests per second; 0 = no limit
	all               window
	sources           map[netip.Addr]*window
	free              []*window
	sweepAt           time.Time
}

type window struct {
	start    time.Time
	cur, old int
}

func newRateLimiter(perSource, global int) *rateLimiter {
	return &rateLimiter{perSource: perSource, global: global, sources: make(map[netip.Addr]*window)}
}

// allow reports whether a request from a may be answered, and counts it.
func (l *rateLimiter) allow(a netip.Addr, now time.Time) bool {
	if l.perSource > 0 && !l.source(quotaSource(a), now).take(l.perSource, now) {
		return false
	}
	return l.global <= 0 || l.all.take(l.global, now)
}

func (l *rateLimiter) source(a netip.Addr, now time.Time) *window {
	if w := l.sources[a]; w != nil {
		return w
	}
	if !now.Before(l.sweepAt) || len(l.sources) >= maxSources {
		l.sweep(now)
	}
	var w *window
	if n := len(l.free); n > 0 {
		w, l.free = l.free[n-1], l.free[:n-1]
		*w = window{}
	} else {
		w = new(window)
	}
	l.sources[a] = w
	return w
}

// sweep forgets the sources whose windows have passed.
func (l *rateLimiter) sweep(now time.Time) {
	full := len(l.sources) >= maxSources
	for a, w := range l.sources {
		if full || now.Sub(w.start) >= 2*time.Second {
			delete(l.sources, a)
			if len(l.free) < 1024 {
				l.free = append(l.free, w)
			}
		}
	}
	l.sweepAt = now.Add(10 * time.Second)
}

// take counts one request unless limit of them were let through within the last second.
func (w *window) take(limit int, now time.Time) bool {
	age := now.Sub(w.start)
	switch {
	case age >= 2*time.Second || w.start.IsZero():
		w.start, w.old, w.cur, age = now, 0, 0, 0
	case age >= time.Second:
		w.start, w.old, w.cur, age = w.start.Add(time.Second), w.cur, 0, age-time.Second
	}
	inSight := int(int64(w.old) * int64(time.Second-age) / int64(time.Second))
	if w.cur+inSight >= limit {
		return false
	}
	w.cur++
	return true
}

// quotaSource is what counts as one source: an IPv4 address, or the /64 of an IPv6 address.
func quotaSource(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}
