package storage

import (
	"container/heap"
	"math"
	"net/netip"
	"time"
)

// source is the account of one source of values.
type source struct {
	addr   netip.Addr
	number uint32
	bytes  int64
	ends   ends
	atEnd  int // place in Store.byEnd
	atSize int // place in Store.bySize, -1 for Local
}

func (c *source) first() int64 {
	if len(c.ends.heap) == 0 {
		return math.MaxInt64
	}
	return c.ends.items.at(c.ends.heap[0]).ends
}

// source returns the account of addr, opening it.
func (s *Store) source(addr netip.Addr) *source {
	if c := s.sources[addr]; c != nil {
		return c
	}
	c := &source{addr: addr, atSize: -1, number: uint32(len(s.numbered)), ends: ends{items: &s.items}}
	if k := len(s.numbers); k > 0 {
		c.number = s.numbers[k-1]
		s.numbers = s.numbers[:k-1]
		s.numbered[c.number] = c
	} else {
		s.numbered = append(s.numbered, c)
	}
	s.sources[addr] = c
	heap.Push(&s.byEnd, c)
	if addr.IsValid() {
		heap.Push(&s.bySize, c)
	}
	return c
}

// book puts item i into the account of c.
func (s *Store) book(c *source, i uint32) {
	it := s.items.at(i)
	it.src = c.number
	c.ends.push(i)
	s.charge(c, int64(it.size)+overhead, 1)
}

// unbook takes item i out of its account and closes the account with the last one.
func (s *Store) unbook(i uint32) {
	it := s.items.at(i)
	c := s.numbered[it.src]
	c.ends.remove(it.pos)
	s.charge(c, -int64(it.size)-overhead, -1)
	if len(c.ends.heap) > 0 {
		return
	}
	heap.Remove(&s.byEnd, c.atEnd)
	if c.atSize >= 0 {
		heap.Remove(&s.bySize, c.atSize)
	}
	delete(s.sources, c.addr)
	s.numbered[c.number] = nil
	s.numbers = append(s.numbers, c.number)
}

// charge changes an account and restores the order of accounts.
func (s *Store) charge(c *source, bytes int64, values int) {
	c.bytes += bytes
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

// evict drops values until all quotas hold: expired ones first, then those of the fullest source that end first. It ends
// because each round drops a value, and a source with bytes has one.
func (s *Store) evict(now time.Time, gone []Gone) []Gone {
	if !s.over() {
		return gone
	}
	gone = s.Expire(now, gone)
	for s.over() {
		gone = s.dropFirst(s.bySize[0], gone)
	}
	return gone
}

func (s *Store) over() bool {
	return len(s.bySize) > 0 &&
		(s.remote.bytes > s.limits.Bytes || s.bySize[0].bytes > s.limits.BytesPerSource)
}

// dropFirst drops the value of c that ends first.
func (s *Store) dropFirst(c *source, gone []Gone) []Gone {
	i := c.ends.heap[0]
	it := s.items.at(i)
	gone = append(gone, Gone{it.key, it.id})
	s.drop(i)
	return gone
}

// ends is a heap of items by end of life; each knows its place.
type ends struct {
	items *items
	heap  []uint32
}

func (h *ends) less(a, b int) bool { return h.items.at(h.heap[a]).ends < h.items.at(h.heap[b]).ends }

func (h *ends) swap(a, b int) {
	h.heap[a], h.heap[b] = h.heap[b], h.heap[a]
	h.items.at(h.heap[a]).pos, h.items.at(h.heap[b]).pos = uint32(a), uint32(b)
}

func (h *ends) push(i uint32) {
	h.items.at(i).pos = uint32(len(h.heap))
	h.heap = append(h.heap, i)
	h.up(len(h.heap) - 1)
}

func (h *ends) remove(pos uint32) {
	last := len(h.heap) - 1
	if int(pos) != last {
		h.swap(int(pos), last)
	}
	h.heap = h.heap[:last]
	if int(pos) < last {
		h.fix(pos)
	}
}

// fix restores the order after the item at pos changed.
func (h *ends) fix(pos uint32) {
	h.down(h.up(int(pos)))
}

func (h *ends) up(i int) int {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	return i
}

func (h *ends) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h.heap) {
			return
		}
		if c+1 < len(h.heap) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
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
