package turnserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/turnserver/credential"
	"github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is a server on loopback with the Jami user and any ports.
func testConfig() Config {
	cfg := Default()
	cfg.Listeners[0].Address = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.ShutdownTimeout = 0
	cfg.Workers = 1
	cfg.Limits.UnauthenticatedRate = 0
	return cfg
}

// serve runs a server until the test ends.
func serve(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	s := newServer(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// newServer is New; the port that was free for UDP may be taken for TCP, then it tries again.
func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(t.Context(), cfg, Deps{})
	for range 10 {
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		s, err = New(t.Context(), cfg, Deps{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testClient speaks STUN by hand, so that tests can also say what no library would.
type testClient struct {
	t                  testing.TB
	conn               net.Conn
	stream             bool
	user, realm, nonce string
	password           string
}

func newClient(t testing.TB, s *Server, transport string) *testClient {
	t.Helper()
	return dialClient(t, transport, s.Addrs(transport)[0])
}

func dialClient(t testing.TB, transport string, addr netip.AddrPort) *testClient {
	t.Helper()
	conn, err := net.Dial(transport, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &testClient{t: t, conn: conn, stream: transport == "tcp", user: "ring", password: "ring"}
}

type attr struct {
	t stun.AttrType
	v []byte
}

func u32(t stun.AttrType, v uint32) attr { return attr{t, binary.BigEndian.AppendUint32(nil, v)} }

func requestedTransport(proto byte) attr {
	return attr{stun.AttrRequestedTransport, []byte{proto, 0, 0, 0}}
}

func lifetimeAttr(seconds uint32) attr { return u32(stun.AttrLifetime, seconds) }

func familyAttr(f byte) attr { return attr{stun.AttrRequestedAddressFamily, []byte{f, 0, 0, 0}} }

func channelAttr(n uint16) attr { return u32(stun.AttrChannelNumber, uint32(n)<<16) }

type peerAttr netip.AddrPort

// message builds a STUN message. Attributes are attr or peerAttr.
func message(t stun.MessageType, attrs ...any) *stun.Message {
	m := stun.New()
	_ = m.NewTransactionID()
	m.Type = t
	m.WriteHeader()
	for _, a := range attrs {
		switch a := a.(type) {
		case attr:
			m.Add(a.t, a.v)
		case peerAttr:
			m.Add(stun.AttrXORPeerAddress, appendXORAddress(nil, netip.AddrPort(a), m.TransactionID))
		}
	}
	return m
}

func (c *testClient) key() stun.MessageIntegrity {
	k := credential.LongTermKey(c.user, c.realm, c.password)
	return k[:]
}

// sign adds the credentials.
func (c *testClient) sign(m *stun.Message) *stun.Message {
	m.Add(stun.AttrUsername, []byte(c.user))
	m.Add(stun.AttrRealm, []byte(c.realm))
	m.Add(stun.AttrNonce, []byte(c.nonce))
	_ = c.key().AddTo(m)
	return m
}

func (c *testClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// frame reads one frame or datagram.
func (c *testClient) frame() []byte {
	c.t.Helper()
	b, err := c.tryFrame()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return b
}

func (c *testClient) tryFrame() ([]byte, error) {
	if !c.stream {
		buf := make([]byte, 70000)
		n, err := c.conn.Read(buf)
		return buf[:n], err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		return nil, err
	}
	rest := make([]byte, frameSize(head)-4)
	_, err := io.ReadFull(c.conn, rest)
	return append(head, rest...), err
}

// decode parses a STUN message that the server sent.
func (c *testClient) decode(b []byte) *stun.Message {
	c.t.Helper()
	m := &stun.Message{Raw: append(make([]byte, 0, len(b)+64), b...)}
	if err := m.Decode(); err != nil {
		c.t.Fatalf("answer %x: %v", b, err)
	}
	return m
}

// do sends m as it is and returns the answer.
func (c *testClient) do(m *stun.Message) *stun.Message {
	c.t.Helper()
	c.write(m.Raw)
	for {
		resp := c.decode(c.frame())
		if resp.TransactionID == m.TransactionID {
			return resp
		}
	}
}

// login takes realm and nonce from a challenge.
func (c *testClient) login() {
	c.t.Helper()
	resp := c.do(message(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestedTransport(protocolUDP)))
	if code := errorCode(resp); code != 401 {
		c.t.Fatalf("first Allocate: %d, want 401", code)
	}
	c.realm, c.nonce = get(resp, stun.AttrRealm), get(resp, stun.AttrNonce)
}

// ask sends a signed request and checks the integrity of its answer.
func (c *testClient) ask(method stun.Method, attrs ...any) *stun.Message {
	c.t.Helper()
	if c.nonce == "" {
		c.login()
	}
	resp := c.do(c.sign(message(stun.NewType(method, stun.ClassRequest), attrs...)))
	switch errorCode(resp) {
	case 400, 401, 438:
	default:
		if err := c.key().Check(resp); err != nil {
			c.t.Errorf("%v: answer without valid integrity: %v", method, err)
		}
	}
	return resp
}

// must is ask for a success.
func (c *testClient) must(method stun.Method, attrs ...any) *stun.Message {
	c.t.Helper()
	resp := c.ask(method, attrs...)
	if resp.Type.Class != stun.ClassSuccessResponse {
		c.t.Fatalf("%v: error %d", method, errorCode(resp))
	}
	return resp
}

// allocate returns the relayed transport address.
func (c *testClient) allocate(attrs ...any) netip.AddrPort {
	c.t.Helper()
	if len(attrs) == 0 {
		attrs = []any{requestedTransport(protocolUDP)}
	}
	resp := c.must(stun.MethodAllocate, attrs...)
	addr, ok := decodeXORAddress([]byte(get(resp, stun.AttrXORRelayedAddress)), resp.TransactionID)
	if !ok {
		c.t.Fatal("no relayed address")
	}
	return addr
}

func errorCode(m *stun.Message) int {
	v, err := m.Get(stun.AttrErrorCode)
	if err != nil {
		return 0
	}
	return int(v[2])*100 + int(v[3])
}

func get(m *stun.Message, t stun.AttrType) string {
	v, _ := m.Get(t)
	return string(v)
}

// udpPeer is a peer that the test reads and writes as itself.
func udpPeer(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.SetDeadline(time.Now().Add(20 * time.Second))
	return p, unmap(p.LocalAddr().(*net.UDPAddr).AddrPort())
}

func channelFrame(number uint16, data []byte, stream bool) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	b = append(b, data...)
	if stream {
		b = append(b, pad(len(data))...)
	}
	return b
}

func TestRelayUDP(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, transport := range []string{"udp", "tcp"} {
		c := newClient(t, s, transport)
		relayed := c.allocate()
		peer, addr := udpPeer(t)

		c.must(stun.MethodCreatePermission, peerAttr(addr))
		ind := message(stun.NewType(stun.MethodSend, stun.ClassIndication), peerAttr(addr), attr{stun.AttrData, []byte("hello")})
		c.write(ind.Raw)
		buf := make([]byte, 2000)
		n, from, err := peer.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "hello" || unmap(from) != relayed {
			t.Fatalf("%s: peer got %q from %v, %v; want hello from %v", transport, buf[:n], from, err, relayed)
		}
		peer.WriteToUDPAddrPort([]byte("there"), relayed)
		data := c.decode(c.frame())
		got, _ := decodeXORAddress([]byte(get(data, stun.AttrXORPeerAddress)), data.TransactionID)
		if data.Type != stun.NewType(stun.MethodData, stun.ClassIndication) || get(data, stun.AttrData) != "there" || got != addr {
			t.Errorf("%s: indication %v from %v", transport, data, got)
		}

		c.must(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(addr))
		for size := range 9 { // every padding, and the smallest: they go on at once
			payload := bytes.Repeat([]byte{byte(size)}, size)
			c.write(channelFrame(0x4000, payload, c.stream))
			if n, err := peer.Read(buf); err != nil || !bytes.Equal(buf[:n], payload) {
				t.Fatalf("%s: peer got %x, %v; want %x", transport, buf[:n], err, payload)
			}
			peer.WriteToUDPAddrPort(payload, relayed)
			if got, want := c.frame(), channelFrame(0x4000, payload, c.stream); !bytes.Equal(got, want) {
				t.Fatalf("%s: client got %x, want %x", transport, got, want)
			}
		}
		if code := errorCode(c.ask(stun.MethodRefresh, lifetimeAttr(0))); code != 0 {
			t.Errorf("%s: Refresh: %d", transport, code)
		}
		if code := errorCode(c.ask(stun.MethodCreatePermission, peerAttr(addr))); code != 437 {
			t.Errorf("%s: CreatePermission after the end: %d, want 437", transport, code)
		}
	}
	if n := s.count(); n != 0 {
		t.Errorf("%d allocations remain", n)
	}
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		case <-tick.C:
		}
	}
}
