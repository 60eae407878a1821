package routing

import (
	"time"

	"github.com/jirani/jirani/dht"
)

// Closest appends to dst up to max good nodes, those nearest to target, nearest first; those that owe us an answer for longer than answers
// take are left out. It does not allocate when dst has
// room. It walks the buckets as the binary tree they are: everything on target's side of a bit is nearer than anything on
// the other.
func (t *Table) Closest(dst []*Node, target dht.InfoHash, max int, now time.Time) []*Node {
	return t.walk(dst, len(dst), 0, len(t.buckets), 0, target, max, now)
}

// walk collects from buckets[lo:hi], which share their first depth bits.
func (t *Table) walk(dst []*Node, base, lo, hi, depth int, target dht.InfoHash, max int, now time.Time) []*Node {
	if len(dst)-base >= max || lo >= hi {
		return dst
	}
	if hi-lo == 1 {
		return collect(dst, len(dst), base+max, t.buckets[lo].nodes, target, now)
	}
	mid := lo
	for mid < hi && !t.buckets[mid].start.Bit(depth) {
		mid++
	}
	if target.Bit(depth) {
		dst = t.walk(dst, base, mid, hi, depth+1, target, max, now)
		return t.walk(dst, base, lo, mid, depth+1, target, max, now)
	}
	dst = t.walk(dst, base, lo, mid, depth+1, target, max, now)
	return t.walk(dst, base, mid, hi, depth+1, target, max, now)
}

// collect inserts the good ones of nodes into dst[from:], sorted by distance, as far as there is room below limit.
func collect(dst []*Node, from, limit int, nodes []*Node, target dht.InfoHash, now time.Time) []*Node {
	for _, n := range nodes {
		if n.Late || !n.Good(now) {
			continue
		}
		i := len(dst)
		for i > from && compare(n.ID, dst[i-1].ID, target) < 0 {
			i--
		}
		if len(dst) < limit {
			dst = append(dst, nil)
		} else if i == len(dst) {
			continue
		}
		copy(dst[i+1:], dst[i:])
		dst[i] = n
	}
	return dst
}
