package natlab

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on an operating-system thread of its own that dies when f returns, so that f may change the thread's
// namespaces. It returns at once. It never uses the thread that leads the process, whose namespaces /proc/self shows.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked, unless this is the leader
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		done := make(chan struct{})
		onThread(func() { defer close(done); f() }) // the leader is held here, so the next goroutine runs elsewhere
		<-done
		runtime.UnlockOSThread()
	}()
}

// callOnThread is onThread that waits for f.
func callOnThread(f func() error) error {
	result := make(chan error, 1)
	onThread(func() { result <- f() })
	return <-result
}
