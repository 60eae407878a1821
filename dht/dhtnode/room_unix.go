//go:build unix

package dhtnode

import "syscall"

// newRoom returns memory for datagrams outside the collector's heap: megabytes that are mostly never touched should
// neither be resident nor raise the size at which the collector runs.
func newRoom(size int) []byte {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// freeRoom gives it back; memory from the heap is left to the collector.
func freeRoom(b []byte) { _ = syscall.Munmap(b) }
