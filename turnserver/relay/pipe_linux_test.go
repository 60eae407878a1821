package relay

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func free(int) time.Duration { return 0 }

func lingerOf(t *testing.T, c *net.TCPConn) (l unix.Linger) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		got, err := unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
		if err != nil {
			t.Error(err)
			return
		}
		l = *got
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPipeWouldReset: what the kernel does to the connections of a process that dies is what it would do to these now.
func TestPipeWouldReset(t *testing.T) {
	client, user := tcpPair(t)
	peer, friend := tcpPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Pipe(t.Context(), client, peer, free, free)
	}()
	if _, err := user.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(friend, make([]byte, 1)); err != nil { // Pipe is at work
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{client, peer} {
		if l := lingerOf(t, c); l.Onoff != 1 || l.Linger != 0 {
			t.Errorf("SO_LINGER = %+v, want on, 0 seconds", l)
		}
	}
	user.Close()
	friend.Close()
	<-done
}
