package turnclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v3"
)

func withTCPAllocation(t *testing.T) (*TCPAllocation, *script, <-chan *script) {
	t.Helper()
	c, s, more := play(t, TCP, Config{})
	var a *TCPAllocation
	err := during(func() (err error) { a, err = c.AllocateTCP(t.Context(), Options{}); return err }, func() { s.allocate(10 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	return a, s, more
}

func attempt(id uint32, peer netip.AddrPort) []byte {
	return message(stun.MethodConnectionAttempt, stun.ClassIndication, uint32Attr(stun.AttrConnectionID, id),
		xor(stun.AttrXORPeerAddress, peer)).Raw
}

// A peer connects, its data connection is bound with the nonce of the control connection, and what it sent at once is there.
func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, more := withTCPAllocation(t)
		s.write(attempt(7, peerA))
		data := <-more
		m := data.authenticated(stun.MethodConnectionBind)
		if id, err := number(m, stun.AttrConnectionID); id != 7 || err != nil {
			t.Errorf("ConnectionBind of %d, %v; want 7", id, err)
		}
		early := append(answer(m, stun.ClassSuccessResponse, signed).Raw, "early "...)
		go func() { // ends when the bytes are read: a pipe holds none
			data.write(early)
			data.write([]byte("and late"))
		}()
		conn, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		got := make([]byte, len("early and late"))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early and late" {
			t.Errorf("read %q, %v", got, err)
		}
		if conn.RemoteAddr().String() != peerA.String() || conn.LocalAddr().String() != relayed.String() {
			t.Errorf("connection of %v to %v", conn.LocalAddr(), conn.RemoteAddr())
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		var timeout net.Error
		if _, err := conn.Read(got); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read beyond the deadline: %v", err)
		}
	})
}

// An attempt that comes together with the allocation is bound, or passed over if it was too early, and nothing worse.
func TestAttemptWithAllocation(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c, s, more := play(t, TCP, Config{})
			err := during(func() error { _, err := c.AllocateTCP(t.Context(), Options{}); return err }, func() {
				s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
				ok := answer(s.authenticated(stun.MethodAllocate), stun.ClassSuccessResponse, append(granted(time.Minute), signed)...)
				s.write(append(ok.Raw, attempt(1, peerA)...))
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			select {
			case data := <-more:
				data.succeed(data.authenticated(stun.MethodConnectionBind))
			default:
			}
		})
	}
}

// An attempt that cannot be bound does not stand in the way of others; more than the bound are left alone.
func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, more := withTCPAllocation(t)
		s.write(message(stun.MethodConnectionAttempt, stun.ClassIndication, uint32Attr(stun.AttrConnectionID, 1)).Raw) // no peer
		s.write(attempt(1, peerA))
		gone := <-more
		gone.refuse(gone.authenticated(stun.MethodConnectionBind), stun.CodeBadRequest)
		synctest.Wait() // until it is given up
		s.write(attempt(2, peerB))
		data := <-more
		data.succeed(data.authenticated(stun.MethodConnectionBind))
		conn, err := a.Accept()
		if err != nil || conn.RemoteAddr().String() != peerB.String() {
			t.Fatalf("Accept = %v, %v", conn, err)
		}
		conn.Close()
		if n := a.Missed(); n != 1 {
			t.Errorf("%d missed, want the first", n)
		}
		for i := range uint32(maxUnaccepted + 3) {
			s.write(attempt(10+i, peerA))
		}
		for range maxUnaccepted {
			data := <-more
			data.succeed(data.authenticated(stun.MethodConnectionBind))
		}
		synctest.Wait()
		if n := a.Missed(); n != 4 || len(more) != 0 {
			t.Errorf("%d missed, %d further connections; want 4, none", n, len(more))
		}
	})
}

// A bind whose answer is forged, stale or never comes.
func TestBindHostile(t *testing.T) {
	for name, tt := range map[string]struct {
		server func(s *script)
		bound  bool
	}{
		"stale nonce": {func(s *script) {
			m := s.authenticated(stun.MethodConnectionBind)
			s.nonce = "nonce 2"
			s.challenge(m, stun.CodeStaleNonce)
			s.succeed(s.authenticated(stun.MethodConnectionBind))
		}, true},
		"no integrity": {func(s *script) {
			s.write(answer(s.authenticated(stun.MethodConnectionBind), stun.ClassSuccessResponse).Raw)
		}, false},
		"another transaction": {func(s *script) {
			s.authenticated(stun.MethodConnectionBind)
			s.succeed(message(stun.MethodConnectionBind, stun.ClassRequest))
		}, false},
		"closed":  {func(s *script) { s.authenticated(stun.MethodConnectionBind); s.conn.Close() }, false},
		"silence": {func(s *script) { s.authenticated(stun.MethodConnectionBind); <-s.frames }, false},
		"rubbish": {func(s *script) { s.authenticated(stun.MethodConnectionBind); s.write(bytes.Repeat([]byte{0xff}, 4)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s, more := withTCPAllocation(t)
				s.write(attempt(7, peerA))
				tt.server(<-more)
				synctest.Wait()
				if bound := len(a.ready) == 1; bound != tt.bound || a.Missed() == 1 == bound {
					t.Errorf("bound: %v, missed: %d", bound, a.Missed())
				}
			})
		})
	}
}

func TestDialPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, more := withTCPAllocation(t)
		var conn net.Conn
		err := during(func() (err error) { conn, err = a.Dial(t.Context(), peerA); return err }, func() {
			m := s.authenticated(stun.MethodConnect)
			if peer, _ := address(m, stun.AttrXORPeerAddress); peer != peerA {
				t.Errorf("Connect to %v, want %v", peer, peerA)
			}
			s.succeed(m, uint32Attr(stun.AttrConnectionID, 9))
			data := <-more
			data.succeed(data.authenticated(stun.MethodConnectionBind))
		})
		if err != nil || conn.RemoteAddr().String() != peerA.String() {
			t.Fatalf("Dial = %v, %v", conn, err)
		}
		conn.Close()
		err = during(func() error { _, err := a.Dial(t.Context(), peerA); return err }, func() {
			s.refuse(s.authenticated(stun.MethodConnect), stun.CodeConnTimeoutOrFailure, signed)
		})
		if !hasCode(err, stun.CodeConnTimeoutOrFailure) {
			t.Errorf("Dial a peer that refuses: %v, want 447", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := during(func() error { _, err := a.Dial(ctx, peerA); return err },
			func() { s.authenticated(stun.MethodConnect) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial with a context that ends: %v", err)
		}
	})
}

// Closing ends a bind that is under way, and what has been bound and not accepted.
func TestCloseTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, s, more := withTCPAllocation(t)
		s.write(attempt(1, peerA))
		bound := <-more
		bound.succeed(bound.authenticated(stun.MethodConnectionBind))
		s.write(attempt(2, peerB))
		binding := <-more
		binding.authenticated(stun.MethodConnectionBind)
		if err := during(a.c.Close, func() { s.succeed(s.authenticated(stun.MethodRefresh), lifetimeAttr(0)) }); err != nil {
			t.Error(err)
		}
		<-bound.frames
		<-binding.frames
		if _, err := a.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v, want %v", err, net.ErrClosed)
		}
	})
}

func TestTCPOverDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := play(t, UDP, Config{})
		if _, err := c.AllocateTCP(t.Context(), Options{}); err == nil {
			t.Error("AllocateTCP over UDP: no error")
		}
	})
}
