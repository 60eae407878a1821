//go:build unix

package storage

import "syscall"

// newPage maps a page of zeros outside the collector's heap, or takes it from there if the system refuses.
func newPage(size int) []byte {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return make([]byte, size)
	}
	return b
}

// dropPage gives a page back; one from the heap is left to the collector.
func dropPage(b []byte) { _ = syscall.Munmap(b) }
