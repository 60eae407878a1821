package turnclient

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	relayed = netip.MustParseAddrPort("192.0.2.1:50000")
	mapped  = netip.MustParseAddrPort("198.51.100.7:40000")
	peerA   = netip.MustParseAddrPort("203.0.113.5:6000")
	peerB   = netip.MustParseAddrPort("203.0.113.6:6000")
)

// script is the server's side of one connection, played by the test.
type script struct {
	t      *testing.T
	conn   net.Conn
	stream bool
	frames chan []byte // from the client; closed with the connection
	nonce  string
}

var testKey = stun.NewLongTermIntegrity("ring", "example.org", "secret")

// play connects a client to a script, by pipes, within a bubble of package synctest. It gets every further connection of the client from
// the channel. Both ends are closed with the test.
func play(t *testing.T, transport Transport, cfg Config) (*Client, *script, <-chan *script) {
	t.Helper()
	scripts := make(chan *script, maxUnaccepted+2)
	cfg.Username, cfg.Password = "ring", "secret"
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		scripts <- newScript(t, far, transport.stream())
		return near, nil
	}
	c, err := Dial(t.Context(), Server{"relay.example.org", 3478, transport}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, <-scripts, scripts
}

func newScript(t *testing.T, conn net.Conn, stream bool) *script {
	s := &script{t: t, conn: conn, stream: stream, frames: make(chan []byte, 64), nonce: "nonce 1"}
	t.Cleanup(func() { conn.Close() })
	go func() { // ends with the connection
		defer close(s.frames)
		for {
			b := make([]byte, maxFrame)
			n, err := s.readOne(b)
			if err != nil {
				return
			}
			s.frames <- b[:n]
		}
	}()
	return s
}

func (s *script) readOne(b []byte) (int, error) {
	if !s.stream {
		return s.conn.Read(b)
	}
	frame, err := readFrame(s.conn, b)
	return len(frame), err
}

// request returns the client's next message, which has to be of a method.
func (s *script) request(method stun.Method) *stun.Message {
	s.t.Helper()
	frame, ok := <-s.frames
	if !ok {
		s.t.Fatalf("the client has left, want %v", method)
	}
	m, err := parse(frame)
	if err != nil || m.Type.Method != method {
		s.t.Fatalf("client sent %x (%v), want %v", frame, err, method)
	}
	return m
}

// write sends raw bytes to the client.
func (s *script) write(b []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(b); err != nil {
		s.t.Errorf("write to client: %v", err)
	}
}

// answer builds an answer.
func answer(to *stun.Message, class stun.MessageClass, attrs ...attribute) *stun.Message {
	m := stun.New()
	m.TransactionID, m.Type = to.TransactionID, stun.NewType(to.Type.Method, class)
	m.WriteHeader()
	for _, add := range attrs {
		add(m)
	}
	return m
}

// signed is an attribute too: integrity.
func signed(m *stun.Message) { _ = testKey.AddTo(m) }

func xor(t stun.AttrType, a netip.AddrPort) attribute {
	return func(m *stun.Message) {
		_ = stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}.AddToAs(m, t)
	}
}

func code(c stun.ErrorCode) attribute {
	return func(m *stun.Message) { _ = stun.ErrorCodeAttribute{Code: c, Reason: []byte("because")}.AddTo(m) }
}

func (s *script) succeed(to *stun.Message, attrs ...attribute) {
	s.t.Helper()
	s.write(answer(to, stun.ClassSuccessResponse, append(attrs, signed)...).Raw)
}

func (s *script) refuse(to *stun.Message, c stun.ErrorCode, attrs ...attribute) {
	s.t.Helper()
	s.write(answer(to, stun.ClassErrorResponse, append([]attribute{code(c)}, attrs...)...).Raw)
}

func (s *script) challenge(to *stun.Message, c stun.ErrorCode) {
	s.t.Helper()
	s.refuse(to, c, bytesAttr(stun.AttrRealm, []byte("example.org")...), bytesAttr(stun.AttrNonce, []byte(s.nonce)...))
}

// authenticated is request with credentials that hold.
func (s *script) authenticated(method stun.Method) *stun.Message {
	s.t.Helper()
	m := s.request(method)
	nonce, _ := m.Get(stun.AttrNonce)
	if err := testKey.Check(m); err != nil || string(nonce) != s.nonce {
		s.t.Fatalf("%v with nonce %q: %v, want nonce %q and integrity", method, nonce, err, s.nonce)
	}
	return m
}

func granted(lifetime time.Duration) []attribute {
	return []attribute{xor(stun.AttrXORRelayedAddress, relayed), xor(stun.AttrXORMappedAddress, mapped), lifetimeAttr(lifetime)}
}

// allocate plays an Allocate with its challenge.
func (s *script) allocate(lifetime time.Duration) {
	s.t.Helper()
	s.challenge(s.request(stun.MethodAllocate), stun.CodeUnauthorized)
	s.succeed(s.authenticated(stun.MethodAllocate), granted(lifetime)...)
}

// withAllocation is play up to an allocation for datagrams.
func withAllocation(t *testing.T, transport Transport, cfg Config) (*Allocation, *script) {
	t.Helper()
	c, s, _ := play(t, transport, cfg)
	done := make(chan *Allocation)
	go func() {
		a, err := c.Allocate(t.Context(), Options{})
		if err != nil {
			t.Errorf("Allocate: %v", err)
		}
		done <- a
	}()
	s.allocate(10 * time.Minute)
	return <-done, s
}

// during runs a call while the test plays the server, and returns its error.
func during(call func() error, server func()) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	server()
	return <-done
}

// types lists the attributes of a message.
func types(m *stun.Message) (all []stun.AttrType) {
	for _, a := range m.Attributes {
		all = append(all, a.Type)
	}
	slices.Sort(all)
	return all
}
