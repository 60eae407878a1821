package turnserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
)

// echoes sends channel data to peer and wants it there, and an answer back.
func (c *testClient) echoes(peer *net.UDPConn, what string) {
	c.t.Helper()
	c.write(channelFrame(0x4000, []byte(what), c.stream))
	buf := make([]byte, 100)
	n, from, err := peer.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != what {
		c.t.Fatalf("peer got %q, %v; want %q", buf[:n], err, what)
	}
	peer.WriteToUDPAddrPort([]byte(what), from)
	if b := c.frame(); binary.BigEndian.Uint16(b) != 0x4000 || string(b[4:4+len(what)]) != what {
		c.t.Fatalf("client got %x, want %q", b, what)
	}
}

// TestNextServer: a server that is told to stop leaves its addresses to the next one and serves those it has, over UDP and TCP, until the
// last has gone. Clients of the one never reach the other.
func TestNextServer(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Workers = 2
	cfg.ShutdownTimeout = time.Minute
	run := func() (s *Server, stop context.CancelFunc, done chan error) {
		s = newServer(t, cfg)
		ctx, cancel := context.WithCancel(context.Background())
		done = make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		return s, cancel, done
	}
	first, stopFirst, firstDone := run()
	defer stopFirst()
	cfg.Listeners[0].Address = first.Addrs("udp")[0] // the second is to have the very same
	cfg.Listeners[0].Transports = []string{"udp"}
	if s, err := New(t.Context(), cfg, Deps{}); err == nil {
		s.closeAll()
		t.Fatal("a second server shares the address with one that has not been told to stop")
	}

	const clients = 20
	peer, peerAddr := udpPeer(t)
	var old []*testClient
	for i := range clients {
		c := newClient(t, first, []string{"udp", "udp", "udp", "tcp"}[i%4])
		c.allocate()
		c.must(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(peerAddr))
		old = append(old, c)
	}
	stopFirst()
	eventually(t, "the first gives its addresses free", func() bool {
		first.placesMu.Lock() // held while it does
		defer first.placesMu.Unlock()
		return first.released.Load()
	})

	second, stopSecond, secondDone := run()
	var fresh []*testClient
	for range clients {
		c := newClient(t, second, "udp")
		c.allocate()
		c.must(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(peerAddr))
		fresh = append(fresh, c)
	}
	for i := range clients {
		old[i].echoes(peer, "through the first")
		fresh[i].echoes(peer, "through the second")
		old[i].must(stun.MethodRefresh)
	}
	if first.count() != clients || second.count() != clients {
		t.Errorf("%d and %d allocations, want %d each", first.count(), second.count(), clients)
	}
	for _, c := range old {
		c.must(stun.MethodRefresh, lifetimeAttr(0))
	}
	select {
	case err := <-firstDone:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the first does not end with its last allocation")
	}
	fresh[0].echoes(peer, "still")
	for _, c := range fresh {
		c.must(stun.MethodRefresh, lifetimeAttr(0))
	}
	stopSecond()
	if err := <-secondDone; err != nil {
		t.Error(err)
	}
}

// TestReleasedTCPAllocation: after the release nobody can bind a new peer connection, so peers are refused; what is bound goes on.
func TestReleasedTCPAllocation(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	id, _ := c.attempt()
	d := c.dataConn(s)
	d.must(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))
	s.cfg.ShutdownTimeout = time.Minute // serve has none
	s.release()
	wantReset(t, relayed, "peer of a server that has released its addresses")
	peer.Write([]byte("x"))
	if n, err := d.conn.Read(make([]byte, 1)); n != 1 {
		t.Errorf("a bound connection: %v", err)
	}
	if _, err := net.DialTimeout("tcp", s.Addrs("tcp")[0].String(), time.Second); err == nil {
		t.Error("the listener is still there")
	}
	c.must(stun.MethodRefresh, lifetimeAttr(0))
}

func TestListening(t *testing.T) {
	pc, addr := udpPeer(t)
	_ = pc
	for a, want := range map[netip.AddrPort]bool{addr: true, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.99"), addr.Port()): false} {
		if got := relay.Listening(a); got != want {
			t.Errorf("Listening(%v) = %v, want %v", a, got, want)
		}
	}
	six, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	if a := six.LocalAddr().(*net.UDPAddr).AddrPort(); !relay.Listening(a) {
		t.Errorf("Listening(%v) = false", a)
	}
	near, err := net.Dial("udp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if a := near.LocalAddr().(*net.UDPAddr).AddrPort(); relay.Listening(a) {
		t.Errorf("Listening(%v) = true for a connected socket", a)
	}
}
