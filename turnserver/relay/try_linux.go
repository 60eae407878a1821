package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TrySend gives a stream socket what it takes at once and returns how much that was: nothing when it is full or broken.
func TrySend(fd uintptr, b []byte) int {
	n, _ := swift(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return n
}

// TryReceive takes what a stream socket has. An end of stream is 0 bytes without an error; EAGAIN says that nothing is there yet.
func TryReceive(fd uintptr, b []byte) (int, syscall.Errno) {
	return swift(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
}
