package storage

import (
	"container/heap"
	"math"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
)

// source is the account of one source of values.
type source struct {
	addr   netip.Addr
	bytes  int64
	values int
	ends   deadlines
	atEnd  int // place in Store.byEnd
	atSize int // place in Store.bySize, -1 for Local
}

// deadline says under which end of life a value was queued.
type deadline struct {
	at  int64
	id  dht.ValueID
	key dht.InfoHash
}

func (c *source) first() int64 {
	if len(c.ends) == 0 {
		return math.MaxInt64
	}
	return c.ends[0].at
}

func (c *source) queue(d deadline) { heap.Push(&c.ends, d) }

// source returns the account of addr, opening it.
func (s *Store) source(addr netip.Addr) *source {
	if c := s.sources[addr]; c != nil {
		return c
	}
	c := &source{addr: addr, atSize: -1}
	s.sources[addr] = c
	heap.Push(&s.byEnd, c)
	if addr.IsValid() {
		heap.Push(&s.bySize, c)
	}
	return c
}

// charge changes an account.
func (s *Store) charge(c *source, bytes int64, values int) {
	c.bytes += bytes
	c.values += values
	u := &s.remote
	if c.atSize < 0 {
		u = &s.local
	} else {
		heap.Fix(&s.bySize, c.atSize)
	}
	u.bytes += bytes
	u.values += values
	heap.Fix(&s.byEnd, c.atEnd)
}

// settle restores the order of accounts after deadlines changed, and closes an empty one.
func (s *Store) settle(c *source) {
	if c.values > 0 {
		heap.Fix(&s.byEnd, c.atEnd)
		return
	}
	heap.Remove(&s.byEnd, c.atEnd)
	if c.atSize >= 0 {
		heap.Remove(&s.bySize, c.atSize)
	}
	delete(s.sources, c.addr)
	c.ends = nil
}

// evict drops values until all quotas hold: expired ones first, then those of the fullest source that end first. It ends
// because each round removes a deadline, and a source with bytes has one.
func (s *Store) evict(now time.Time, gone []Gone) []Gone {
	if !s.over() {
		return gone
	}
	gone = s.Expire(now, gone)
	for s.over() {
		gone = s.surfaceLive(s.bySize[0], gone)
	}
	return gone
}

func (s *Store) over() bool {
	return len(s.bySize) > 0 &&
		(s.remote.bytes > s.limits.Bytes || s.bySize[0].bytes > s.limits.BytesPerSource)
}

// surfaceLive drops the value of c that ends first although its life is not over.
func (s *Store) surfaceLive(c *source, gone []Gone) []Gone {
	d := c.ends[0]
	if p := s.keys[d.key]; p != nil {
		if i := p.find(d.id); i >= 0 && p.values[i].src == c && p.values[i].queued == d.at &&
			p.values[i].ends == d.at {
			heap.Pop(&c.ends)
			gone = append(gone, Gone{d.key, d.id})
			s.drop(d.key, p, i)
			return gone
		}
	}
	return s.surface(c, d.at, gone)
}

// deadlines is a heap by time.
type deadlines []deadline

func (h deadlines) Len() int           { return len(h) }
func (h deadlines) Less(i, j int) bool { return h[i].at < h[j].at }
func (h deadlines) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *deadlines) Push(x any)        { *h = append(*h, x.(deadline)) }
func (h *deadlines) Pop() any {
	old := *h
	d := old[len(old)-1]
	*h = old[:len(old)-1]
	return d
}

type endHeap []*source

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].first() < h[j].first() }
func (h endHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].atEnd, h[j].atEnd = i, j
}
func (h *endHeap) Push(x any) {
	c := x.(*source)
	c.atEnd = len(*h)
	*h = append(*h, c)
}
func (h *endHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

type sizeHeap []*source

func (h sizeHeap) Len() int           { return len(h) }
func (h sizeHeap) Less(i, j int) bool { return h[i].bytes > h[j].bytes }
func (h sizeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].atSize, h[j].atSize = i, j
}
func (h *sizeHeap) Push(x any) {
	c := x.(*source)
	c.atSize = len(*h)
	*h = append(*h, c)
}
func (h *sizeHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
