package turnserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/pion/stun/v3"
)

func writeSecret(t testing.TB, content string) config.SecretFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.SecretFile(path)
}

func tcpAllocation(t testing.TB, s *Server) (*testClient, netip.AddrPort) {
	t.Helper()
	c := newClient(t, s, "tcp")
	return c, c.allocate(requestedTransport(protocolTCP))
}

// attempt waits for a ConnectionAttempt and returns its CONNECTION-ID.
func (c *testClient) attempt() (id uint32, peer netip.AddrPort) {
	c.t.Helper()
	m := c.decode(c.frame())
	if m.Type != stun.NewType(stun.MethodConnectionAttempt, stun.ClassIndication) {
		c.t.Fatalf("got %v, want ConnectionAttempt", m.Type)
	}
	if _, err := m.Get(stun.AttrMessageIntegrity); err == nil {
		c.t.Error("ConnectionAttempt with integrity")
	}
	peer, _ = decodeXORAddress([]byte(get(m, stun.AttrXORPeerAddress)), m.TransactionID)
	return binary.BigEndian.Uint32([]byte(get(m, stun.AttrConnectionID))), peer
}

// dataConn is another connection of the same client: it takes over realm and nonce.
func (c *testClient) dataConn(s *Server) *testClient {
	c.t.Helper()
	d := newClient(c.t, s, "tcp")
	d.user, d.password, d.realm, d.nonce = c.user, c.password, c.realm, c.nonce
	return d
}

func dialPeer(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

// wantReset connects to an address that resets: at once or after the handshake, as the kernel has it.
func wantReset(t *testing.T, relayed netip.AddrPort, who string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", relayed.String(), 5*time.Second)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: %v, want a reset", who, err)
	}
}

// The sequence of docs/protocols/turn-usage.md §4 as Jami runs it.
func TestTCPAllocationAsJamiUsesIt(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)

	// The peer knows the address before the owner has made the permission: it must see a reset.
	wantReset(t, relayed, "peer without permission")

	// One request for all candidates; a private one and the server's own do not spoil it.
	c.must(stun.MethodCreatePermission, peerAttr(netip.MustParseAddrPort("10.77.1.2:9")), peerAttr(netip.MustParseAddrPort("127.0.0.1:9")),
		peerAttr(relayed))
	peer := dialPeer(t, relayed)
	check := bytes.Repeat([]byte("check"), 24)
	peer.Write(check) // before the bind
	id, from := c.attempt()
	if want := unmap(peer.LocalAddr().(*net.TCPAddr).AddrPort()); from != want {
		t.Errorf("ConnectionAttempt from %v, want %v", from, want)
	}

	// The nonce of the control connection is good on the data connection, and the answer has integrity (ask checks).
	d := c.dataConn(s)
	d.must(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id), attr{stun.AttrSoftware, []byte("pjnath-2.12.1\x00\x00\x00")})
	got := make([]byte, len(check))
	if _, err := io.ReadFull(d.conn, got); err != nil || !bytes.Equal(got, check) {
		t.Fatalf("client got %q, %v; want what the peer sent before the bind", got, err)
	}
	d.conn.Write([]byte("answer"))
	if _, err := io.ReadFull(peer, got[:6]); err != nil || string(got[:6]) != "answer" {
		t.Fatalf("peer got %q, %v", got[:6], err)
	}

	// ChannelBind, sent wrongly: 403, and the session goes on.
	if code := errorCode(c.ask(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(from))); code != 403 {
		t.Errorf("ChannelBind: %d, want 403", code)
	}
	if code := errorCode(c.ask(stun.MethodConnect, peerAttr(from))); code != 403 {
		t.Errorf("Connect: %d, want 403", code)
	}
	// The same CONNECTION-ID does not bind twice.
	if code := errorCode(c.dataConn(s).ask(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))); code != 400 {
		t.Errorf("second ConnectionBind: %d, want 400", code)
	}
	// The end of the allocation ends its data connections.
	c.must(stun.MethodRefresh, lifetimeAttr(0))
	if _, err := d.conn.Read(got); err == nil {
		t.Error("the data connection outlives its allocation")
	}
	if _, err := peer.Read(got); err == nil {
		t.Error("the peer's connection outlives the allocation")
	}
	if _, err := net.DialTimeout("tcp", relayed.String(), time.Second); err == nil {
		t.Error("the relayed address still listens")
	}
}

func TestControlConnectionEndsAllocation(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	id, _ := c.attempt()
	d := c.dataConn(s)
	d.must(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))
	c.conn.Close()
	if _, err := peer.Read(make([]byte, 1)); err == nil {
		t.Error("the peer's connection outlives the control connection")
	}
	if _, err := d.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the data connection outlives the control connection")
	}
}

// Bytes that a client sends right behind its ConnectionBind belong to the peer.
func TestBytesBehindBind(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	id, _ := c.attempt()
	d := c.dataConn(s)
	bind := d.sign(message(stun.NewType(stun.MethodConnectionBind, stun.ClassRequest), u32(stun.AttrConnectionID, id)))
	d.write(append(bytes.Clone(bind.Raw), "behind"...))
	got := make([]byte, 6)
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != "behind" {
		t.Errorf("peer got %q, %v", got, err)
	}
}

func TestBindOfAnotherUser(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Realms[0].UsersFile = writeSecret(t, "ann:secret\n") })
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	dialPeer(t, relayed)
	id, _ := c.attempt()
	d := c.dataConn(s)
	d.user, d.password = "ann", "secret"
	if code := errorCode(d.ask(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))); code != 441 {
		t.Errorf("ConnectionBind of another user: %d, want 441", code)
	}
	if code := errorCode(c.dataConn(s).ask(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))); code != 0 {
		t.Errorf("the owner's ConnectionBind after that: %d, want success", code)
	}
}

func TestPeersAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.PeersPerAllocation = 8 })
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	for range 8 {
		dialPeer(t, relayed)
		c.attempt()
	}
	wantReset(t, relayed, "peer without permission")
}

func TestConnect(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Relay.TCPConnect = true })
	c, relayed := tcpAllocation(t, s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	to := unmap(ln.Addr().(*net.TCPAddr).AddrPort())
	resp := c.must(stun.MethodConnect, peerAttr(to))
	id := binary.BigEndian.Uint32([]byte(get(resp, stun.AttrConnectionID)))
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if from := unmap(far.RemoteAddr().(*net.TCPAddr).AddrPort()); from != relayed {
		t.Errorf("peer is reached from %v, want %v", from, relayed)
	}
	if code := errorCode(c.ask(stun.MethodConnect, peerAttr(to))); code != 446 {
		t.Errorf("second Connect: %d, want 446", code)
	}
	d := c.dataConn(s)
	d.must(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))
	d.conn.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello" {
		t.Errorf("peer got %q, %v", got, err)
	}
	ln.Close()
	for name, tt := range map[string]struct {
		peer string
		want int
	}{"nobody there": {to.String(), 447}, "private": {"10.0.0.1:80", 403}, "port 0": {"127.0.0.1:0", 400}, "other family": {"[2001:db8::1]:80", 443}} {
		far.Close()
		d.conn.Close()
		if tt.want == 447 { // the first connection has to be gone
			eventually(t, "the first connection ends", func() bool { return !s.knowsPeer(to) })
		}
		if code := errorCode(c.ask(stun.MethodConnect, peerAttr(netip.MustParseAddrPort(tt.peer)))); code != tt.want {
			t.Errorf("Connect to %s: %d, want %d", name, code, tt.want)
		}
	}
}

func (s *Server) knowsPeer(peer netip.AddrPort) bool {
	for _, a := range s.all() {
		if a.tcp.knows(peer) {
			return true
		}
	}
	return false
}
