package turnserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/turnserver/credential"
	"github.com/jirani/jirani/turnserver/policy"
	"github.com/pion/stun/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestForbiddenPeers: every spelling of an inner address gets its permission, so that Jami's clients go on, and nothing of the data.
func TestForbiddenPeers(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.Policy.Loopback = "off"
		c.Listeners = append(c.Listeners, ListenerConfig{Address: netip.MustParseAddrPort("[::1]:0"), Transports: []string{"udp"}})
	})
	victim, addr := udpPeer(t)
	for _, tt := range []struct {
		family byte
		peer   string
	}{
		{1, "127.0.0.1"}, {1, "127.8.8.8"}, {1, "0.0.0.0"}, {1, "10.0.0.1"}, {1, "169.254.169.254"}, {1, "224.0.0.1"}, {1, "255.255.255.255"},
		{2, "::1"}, {2, "::"}, {2, "::ffff:127.0.0.1"}, {2, "::127.0.0.1"}, {2, "::ffff:0:127.0.0.1"}, {2, "64:ff9b::127.0.0.1"},
		{2, "2002:7f00:1::1"}, {2, "fe80::1"}, {2, "fd00::1"}, {2, "ff02::1"}, {2, "fe80::5efe:127.0.0.1"},
	} {
		c := dialClient(t, "udp", s.Addrs("udp")[tt.family-1])
		c.allocate(requestedTransport(protocolUDP), familyAttr(tt.family))
		peer := netip.AddrPortFrom(netip.MustParseAddr(tt.peer), addr.Port())
		if code := errorCode(c.ask(stun.MethodCreatePermission, peerAttr(peer))); code != 0 {
			t.Errorf("CreatePermission %s: %d, want success", tt.peer, code)
		}
		if code := errorCode(c.ask(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(peer))); code != 403 {
			t.Errorf("ChannelBind %s: %d, want 403", tt.peer, code)
		}
		before := policyRefusals(s)
		c.write(message(stun.NewType(stun.MethodSend, stun.ClassIndication), peerAttr(peer), attr{stun.AttrData, []byte("x")}).Raw)
		c.ask(stun.MethodRefresh) // answered after the indication was handled
		if policyRefusals(s) != before+1 {
			t.Errorf("Send to %s is not counted as refused", tt.peer)
		}
	}
	victim.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, _, err := victim.ReadFromUDPAddrPort(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes reached the host", n)
	}
}

func policyRefusals(s *Server) (n float64) {
	for _, c := range s.metrics.policy {
		if c != nil {
			n += testutil.ToFloat64(c)
		}
	}
	return n
}

// TestOwnAddress: of this host's own addresses only relayed transport addresses are peers.
func TestOwnAddress(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddr("203.0.113.80")
	s := serve(t, func(c *Config) { c.Relay.External = map[string]string{"127.0.0.1": own.String()} })
	if got := s.judge(own); got != policy.Own {
		t.Fatalf("judge(own) = %v, want %v", got, policy.Own)
	}
	c := newClient(t, s, "udp")
	relayed := c.allocate()
	for port, want := range map[uint16]int{relayed.Port(): 0, 22: 403, 3478: 403} {
		if code := errorCode(c.ask(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(netip.AddrPortFrom(own, port)))); code != want {
			t.Errorf("ChannelBind to own port %d: %d, want %d", port, code, want)
		}
	}
}

// TestUnauthenticatedIsBounded: what strangers send costs no memory and, over UDP, no more answers than allowed.
func TestUnauthenticatedIsBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.UnauthenticatedRate = 5 })
	c := newClient(t, s, "udp")
	const n = 200
	for range n {
		c.write(message(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestedTransport(protocolUDP)).Raw)
	}
	eventually(t, "all are handled", func() bool {
		return testutil.ToFloat64(s.metrics.requests[stun.MethodAllocate]) == n
	})
	if refused := testutil.ToFloat64(s.metrics.refusal[refusedRate]); refused < n-20 {
		t.Errorf("%v of %d requests went unanswered, want nearly all", refused, n)
	}
	if len(s.allocs)+len(s.pending)+len(s.here.Load().listeners[0].workers[0].clients) != 0 {
		t.Error("something is remembered")
	}
}

// TestAmplification: an answer is never much longer than the question.
func TestAmplification(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := newClient(t, s, "udp")
	ask := message(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestedTransport(protocolUDP))
	if answer := c.do(ask); len(answer.Raw) > 4*len(ask.Raw) {
		t.Errorf("challenge of %d bytes to a request of %d", len(answer.Raw), len(ask.Raw))
	}
	ask = message(stun.NewType(stun.MethodBinding, stun.ClassRequest))
	if answer := c.do(ask); len(answer.Raw) > 2*len(ask.Raw) {
		t.Errorf("binding answer of %d bytes to a request of %d", len(answer.Raw), len(ask.Raw))
	}
}

// TestSlowClients: a connection without allocation is closed in time, whatever it does or does not send.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.UnauthenticatedTimeout = time.Second })
	begin := message(stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw
	for name, first := range map[string][]byte{"silent": nil, "half a header": begin[:2], "header without body": {0, 3, 0, 100}, "most of a message": begin[:19]} {
		c := newClient(t, s, "tcp")
		if first != nil {
			c.write(first)
		}
		if _, err := c.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want the connection closed", name, err)
		}
	}
	// A client with an allocation may be silent longer.
	c := newClient(t, s, "tcp")
	c.allocate()
	time.AfterFunc(1500*time.Millisecond, func() { c.conn.SetReadDeadline(time.Unix(1, 0)) })
	if _, err := c.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silent client with an allocation: %v", err)
	}
}

// TestGarbage: frames that are none end a stranger's connection, and nothing ends the server.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for name, b := range map[string][]byte{
		"http": []byte("GET / HTTP/1.1\r\n\r\n"), "tls hello": {0x16, 3, 1, 2, 0, 1, 0}, "high bits": {0xc0, 0, 0, 0},
		"odd length": {0, 1, 0, 3}, "longer than a stranger may": {0, 3, 0x10, 0},
	} {
		c := newClient(t, s, "tcp")
		c.write(b)
		if _, err := c.conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	c := newClient(t, s, "udp")
	for _, b := range [][]byte{nil, {0}, {0x40}, {0x40, 0, 0xff, 0xff}, bytes.Repeat([]byte{0}, 20), bytes.Repeat([]byte{0x41}, 65000)} {
		c.write(b)
	}
	if code := errorCode(c.do(message(stun.NewType(stun.MethodBinding, stun.ClassRequest)))); code != 0 {
		t.Errorf("Binding after garbage: %d", code)
	}
}

// TestStrangersAreBounded: one address cannot hold more connections without allocation than allowed.
func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.UnauthenticatedConnections = 3 })
	var held []*testClient
	for range 3 {
		held = append(held, newClient(t, s, "tcp"))
	}
	eventually(t, "three are in", func() bool { return s.conns.Load() == 3 })
	wantReset(t, s.Addrs("tcp")[0], "fourth connection")
	held[0].allocate() // is a stranger no more
	held[1].conn.Close()
	eventually(t, "one has gone", func() bool { return s.conns.Load() == 2 })
	newClient(t, s, "tcp").allocate()
}

// TestPendingPeersEndWithAllocation: peers that nobody has bound are not left behind.
func TestPendingPeersEndWithAllocation(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	c.attempt()
	c.must(stun.MethodRefresh, lifetimeAttr(0))
	if _, err := peer.Read(make([]byte, 1)); err == nil {
		t.Error("an unbound peer outlives the allocation")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) != 0 {
		t.Errorf("%d connections are pending", len(s.pending))
	}
}

// TestSpoofedPeer: what comes from an address without permission is not relayed.
func TestSpoofedPeer(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Policy.Loopback = "on" })
	c := newClient(t, s, "udp")
	relayed := c.allocate()
	c.must(stun.MethodCreatePermission, peerAttr(netip.MustParseAddrPort("127.0.0.2:9")))
	stranger, _ := udpPeer(t) // 127.0.0.1
	stranger.WriteToUDPAddrPort([]byte("x"), relayed)
	eventually(t, "the packet is dropped", func() bool { return testutil.ToFloat64(s.metrics.drops[dropPermission]) == 1 })
}

func TestRESTCredentials(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.Realms = append(c.Realms, RealmConfig{Name: "rest", SharedSecrets: []config.SecretFile{writeSecret(t, "north\n"), writeSecret(t, "old")}})
		c.Listeners[0].Realm = "rest"
	})
	name := func(at time.Time) string { return credentialName(at, "bob") }
	for what, tt := range map[string]struct {
		user, secret string
		want         int
	}{
		"good":         {name(time.Now().Add(time.Hour)), "north", 0},
		"rotating":     {name(time.Now().Add(time.Hour)), "old", 0},
		"over":         {name(time.Now().Add(-time.Minute)), "north", 401},
		"other secret": {name(time.Now().Add(time.Hour)), "south", 401},
		"no time":      {"bob", "north", 401},
	} {
		c := newClient(t, s, "udp")
		c.user, c.password = tt.user, credential.Password(tt.secret, tt.user)
		if code := errorCode(c.ask(stun.MethodAllocate, requestedTransport(protocolUDP))); code != tt.want || c.realm != "rest" {
			t.Errorf("%s: %d in realm %s, want %d in rest", what, code, c.realm, tt.want)
		}
	}
}

func TestUserTable(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/users.db"
	s := serve(t, func(c *Config) { c.Realms[0].SQLite = path })
	table, realm, err := OpenUserTable(t.Context(), s.cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	if err := table.Add(t.Context(), realm, "ann", credential.LongTermKey("ann", realm, "secret")); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []string{"udp", "tcp"} {
		c := newClient(t, s, transport)
		c.user, c.password = "ann", "secret"
		c.allocate()
		d := newClient(t, s, transport)
		d.user = "carl"
		if code := errorCode(d.ask(stun.MethodAllocate, requestedTransport(protocolUDP))); code != 401 {
			t.Errorf("%s: unknown user: %d, want 401", transport, code)
		}
	}
	if err := s.tablesReady(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	file := writeSecret(t, "ann:one\n")
	s := serve(t, func(c *Config) { c.Realms[0].UsersFile = file })
	c := newClient(t, s, "udp")
	c.user, c.password = "ann", "one"
	c.allocate()
	rewrite(t, file, "ann:two\nbroken")
	if err := s.Reload(); err == nil {
		t.Error("a broken file is taken")
	}
	c.must(stun.MethodRefresh)
	rewrite(t, file, "ann:two\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if code := errorCode(c.ask(stun.MethodRefresh)); code != 401 {
		t.Errorf("old password after a reload: %d, want 401", code)
	}
	c.password = "two"
	c.must(stun.MethodRefresh)
}

func TestDrain(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := newClient(t, s, "udp")
	c.allocate()
	s.draining.Store(true)
	if code := errorCode(newClient(t, s, "udp").ask(stun.MethodAllocate, requestedTransport(protocolUDP))); code != 508 {
		t.Errorf("Allocate while draining: %d, want 508", code)
	}
	c.must(stun.MethodRefresh)
	if s.ready(t.Context()) == nil {
		t.Error("a draining server is ready")
	}
}

func TestRateLimitDropsWhole(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.RatePerAllocation = 1000 })
	c := newClient(t, s, "udp")
	c.allocate()
	_, addr := udpPeer(t)
	c.must(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(addr))
	for range 100 { // 100 kB against a burst of 64 KiB
		c.write(channelFrame(0x4000, make([]byte, 1000), false))
	}
	eventually(t, "some are dropped", func() bool { return testutil.ToFloat64(s.metrics.drops[dropRate]) > 10 })
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.Listeners[0].ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.JamiUser = "on"
	})
	v2 := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), 198, 51, 100, 7, 203, 0, 113, 1, 0x10, 0x00, 0x0d, 0x96)
	for header, want := range map[string]string{
		"PROXY TCP4 198.51.100.7 203.0.113.1 4096 3478\r\n": "198.51.100.7:4096",
		"PROXY TCP6 2001:db8::7 2001:db8::1 4096 3478\r\n":  "[2001:db8::7]:4096",
		string(v2):                               "198.51.100.7:4096",
		"PROXY UNKNOWN\r\n":                      "",
		"PROXY TCP4 nonsense\r\n":                "refused",
		"\x00\x01\x00\x00\x21\x12\xa4\x42123456": "refused",
	} {
		c := newClient(t, s, "tcp")
		c.write([]byte(header))
		c.conn.Write(message(stun.NewType(stun.MethodBinding, stun.ClassRequest)).Raw)
		b, err := c.tryFrame()
		if want == "refused" {
			if err == nil {
				t.Errorf("%q: answered", header)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", header, err)
			continue
		}
		m := c.decode(b)
		got, _ := decodeXORAddress([]byte(get(m, stun.AttrXORMappedAddress)), m.TransactionID)
		if want != "" && got.String() != want {
			t.Errorf("%q: client is %v, want %s", header, got, want)
		}
	}
}

// TestIdleAllocationHasNoGoroutine: what an idle allocation costs must not be a stack.
func TestIdleAllocationHasNoGoroutine(t *testing.T) {
	s := serve(t, nil)
	before := runtime.NumGoroutine()
	for range 50 {
		newClient(t, s, "udp").allocate()
	}
	if extra := runtime.NumGoroutine() - before; extra > 5 {
		t.Errorf("50 UDP allocations have %d goroutines", extra)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(message(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestedTransport(17), lifetimeAttr(1), peerAttr(somePeer)).Raw)
	f.Add(message(stun.NewType(stun.MethodSend, stun.ClassIndication), peerAttr(somePeer), attr{stun.AttrData, []byte("x")}).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := parseRequest(b)
		if r == nil {
			return
		}
		if len(r.peers) > maxPeers || len(r.unknown) > 16 || len(r.data) > len(b) {
			t.Error("a bound is passed")
		}
		for _, p := range r.peers {
			if got, ok := decodeXORAddress(appendXORAddress(nil, p, r.msg.TransactionID), r.msg.TransactionID); !ok || got != p {
				t.Errorf("address %v becomes %v", p, got)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0})
	f.Add([]byte{0x40, 0, 0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 4 {
			return
		}
		n := frameSize(b)
		if n != -1 && (n < 4 || n > maxFrame+20 || n%4 != 0) {
			t.Errorf("frameSize(%x) = %d", b[:4], n)
		}
		if n > 0 && b[0]&0xC0 == 0x40 && n < 4+int(binary.BigEndian.Uint16(b[2:])) {
			t.Errorf("frameSize(%x) = %d, shorter than its data", b[:4], n)
		}
	})
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 198.51.100.7 203.0.113.1 4096 3478\r\nrest"))
	f.Add(append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), make([]byte, 12)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &bufferConn{b: bytes.NewBuffer(bytes.Clone(b))}
		if addr, err := readProxyHeader(conn, time.Time{}); err == nil && addr.IsValid() && addr.Addr().Is4In6() {
			t.Errorf("mapped address %v", addr)
		}
		if took := len(b) - conn.b.Len(); took > 16+maxProxyV2 {
			t.Errorf("%d bytes taken", took)
		}
	})
}

type bufferConn struct {
	net.Conn
	b *bytes.Buffer
}

func (c *bufferConn) Read(p []byte) (int, error)      { return c.b.Read(p) }
func (c *bufferConn) SetReadDeadline(time.Time) error { return nil }

func rewrite(t testing.TB, file config.SecretFile, content string) {
	t.Helper()
	if err := os.WriteFile(string(file), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// credentialName is a time-limited user name.
func credentialName(until time.Time, who string) string {
	return fmt.Sprintf("%d:%s", until.Unix(), who)
}
