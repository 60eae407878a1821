package prefixtree

import (
	"sync"
	"unsafe"
)

const (
	chunkBits = 12
	chunkLen  = 1 << chunkBits
)

// arena hands out slots in chunks that never move. The chunk table is replaced
// under the tree's lock when it grows; slots and the free list belong to the
// writer.
type arena[T any] struct {
	chunks []*[chunkLen]T
	next   uint32   // first slot never handed out
	free   []uint32 // slots given back
}

func (a *arena[T]) at(slot uint32) *T { return &a.chunks[slot>>chunkBits][slot&(chunkLen-1)] }

func (a *arena[T]) alloc(mu *sync.RWMutex) uint32 {
	if n := len(a.free); n > 0 {
		slot := a.free[n-1]
		a.free = a.free[:n-1]
		return slot
	}
	if int(a.next>>chunkBits) == len(a.chunks) {
		chunk := new([chunkLen]T)
		mu.Lock()
		a.chunks = append(a.chunks, chunk)
		mu.Unlock()
	}
	a.next++
	return a.next - 1
}

func (a *arena[T]) bytes() int64 {
	return int64(len(a.chunks)) * int64(unsafe.Sizeof([chunkLen]T{}))
}
