package turn

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// pionClient is pion's client over conn, logged in as the Jami user.
func pionClient(t *testing.T, server string, conn net.PacketConn) *turn.Client {
	t.Helper()
	c, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: server, TURNServerAddr: server, Conn: conn, Username: "ring", Password: "ring",
		Realm: "ring", LoggerFactory: logging.NewDefaultLoggerFactory()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPionUDP(t *testing.T) {
	s := serve(t)
	for _, transport := range []string{"udp", "tcp"} {
		server := "127.0.0.1:" + portOf(t, s, transport, "127.0.0.1")
		var conn net.PacketConn
		if transport == "udp" {
			pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			conn = pc
		} else {
			tc, err := net.Dial("tcp4", server)
			if err != nil {
				t.Fatal(err)
			}
			conn = turn.NewSTUNConn(tc)
		}
		t.Cleanup(func() { conn.Close() })
		c := pionClient(t, server, conn)
		relayed, err := c.Allocate()
		if err != nil {
			t.Fatalf("%s: Allocate: %v", transport, err)
		}
		echoThrough(t, relayed)
		if err := relayed.Close(); err != nil {
			t.Errorf("%s: Close: %v", transport, err)
		}
	}
}

// echoThrough sends to a peer of the test through relayed, some times, so that pion's client binds a channel on the way. Answers are longer than
// four bytes: over TCP that client (v5.1.2) holds shorter channel data back until the next frame.
func echoThrough(t *testing.T, relayed net.PacketConn) {
	t.Helper()
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	deadline := time.Now().Add(20 * time.Second)
	peer.SetDeadline(deadline)
	relayed.SetDeadline(deadline)
	buf := make([]byte, 2000)
	for i := range 20 {
		if _, err := relayed.WriteTo([]byte("to the peer"), peer.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		n, from, err := peer.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "to the peer" || from.String() != relayed.LocalAddr().String() {
			t.Fatalf("peer got %q from %v, %v", buf[:n], from, err)
		}
		if _, err := peer.WriteTo([]byte("and back"), from); err != nil {
			t.Fatal(err)
		}
		if n, from, err = relayed.ReadFrom(buf); err != nil || string(buf[:n]) != "and back" || from.String() != peer.LocalAddr().String() {
			t.Fatalf("round %d: client got %q from %v, %v", i, buf[:n], from, err)
		}
	}
}

// TestPionTCPAllocation has a peer connect to a TCP allocation, and the allocation to a peer.
func TestPionTCPAllocation(t *testing.T) {
	s := serve(t)
	server := "127.0.0.1:" + portOf(t, s, "tcp", "127.0.0.1")
	control, err := net.Dial("tcp4", server)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	c := pionClient(t, server, turn.NewSTUNConn(control))
	alloc, err := c.AllocateTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer alloc.Close()
	if err := c.CreatePermission(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); err != nil {
		t.Fatal(err)
	}
	peer, err := net.Dial("tcp4", alloc.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.Write([]byte("first")) // before the bind
	data, err := alloc.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	data.SetDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, 5)
	if _, err := io.ReadFull(data, got); err != nil || string(got) != "first" {
		t.Fatalf("client got %q, %v", got, err)
	}

	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := alloc.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	out.Write([]byte("hello"))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello" {
		t.Errorf("peer got %q, %v", got, err)
	}
}
