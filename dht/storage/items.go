package storage

import (
	"unsafe"

	"github.com/jirani/jirani/dht"
)

// item is one stored value. It MUST hold no pointers: items live outside the collector's heap and are addressed by number.
type item struct {
	key     dht.InfoHash
	next    uint32 // the next value at key, 0 = none
	id      dht.ValueID
	ends    int64  // nanoseconds since the store's base
	blob    uint64 // its serialised form …
	size    uint32 // … and that one's length
	created int32  // seconds since the store's base
	src     uint32 // number of its source
	pos     uint32 // place in its source's heap
	typ     dht.ValueTypeID
}

// chunk items are allocated together.
const chunk = 1024

// items numbers items from 1. A pointer to one stays valid.
type items struct {
	chunks []*[chunk]item
	used   uint32 // highest number ever used
	spare  []uint32
}

func (s *items) at(i uint32) *item { return &s.chunks[i/chunk][i%chunk] }

func (s *items) alloc() uint32 {
	if k := len(s.spare); k > 0 {
		i := s.spare[k-1]
		s.spare = s.spare[:k-1]
		return i
	}
	s.used++
	if int(s.used/chunk) >= len(s.chunks) {
		b := newPage(int(unsafe.Sizeof([chunk]item{})))
		s.chunks = append(s.chunks, (*[chunk]item)(unsafe.Pointer(unsafe.SliceData(b))))
	}
	return s.used
}

func (s *items) release(i uint32) {
	*s.at(i) = item{}
	s.spare = append(s.spare, i)
}

// unmap returns all chunks to the system.
func (s *items) unmap() {
	for _, c := range s.chunks {
		dropPage(unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c)))
	}
}

// memory is what a Store has outside the collector's heap.
type memory struct {
	items items
	blobs blobs
}

func (m *memory) unmap() {
	m.items.unmap()
	m.blobs.unmap()
}
