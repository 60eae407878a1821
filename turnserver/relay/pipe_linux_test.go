package relay

import (
	"context"
	"errors"
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

// TestPipeEndsInReset: a peer whose partner is gone finds out at its next write, not at the one after. What was written before arrives.
func TestPipeEndsInReset(t *testing.T) {
	for name, leave := range map[string]func(user *net.TCPConn, end context.CancelFunc){
		"the allocation ends after the stream": func(user *net.TCPConn, end context.CancelFunc) { user.Close() },
		"the allocation ends":                  func(user *net.TCPConn, end context.CancelFunc) { end() },
		"the client resets":                    func(user *net.TCPConn, end context.CancelFunc) { user.SetLinger(0); user.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			client, user := tcpPair(t)
			peer, friend := tcpPair(t)
			ctx, end := context.WithCancel(t.Context())
			defer end()
			done := make(chan struct{})
			go func() {
				defer close(done)
				Pipe(ctx, client, peer, free, free)
			}()
			if _, err := user.Write([]byte("bye")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(friend, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			leave(user, end)
			_, first := friend.Read(make([]byte, 1)) // the end of the stream, or the reset
			end()
			<-done
			_, err := friend.Write([]byte("still there?"))
			if !errors.Is(first, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("reading: %v, then writing: %v; want a reset", first, err)
			}
		})
	}
}

// TestPipeDrains: a reset does not overtake what a slow reader has yet to take.
func TestPipeDrains(t *testing.T) {
	client, user := tcpPair(t)
	peer, friend := tcpPair(t)
	ctx, end := context.WithCancel(t.Context())
	const size = 4 << 20
	go func() {
		user.Write(make([]byte, size))
		user.Close()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		Pipe(ctx, client, peer, free, free)
	}()
	n, err := io.Copy(io.Discard, io.LimitReader(friend, size-1)) // the last byte tells that all has been carried
	if n != size-1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	end()
	if _, err := io.ReadFull(friend, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	<-done
}
