package turnserver

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/pion/stun/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestStreamsAreShaped: a TCP allocation beyond its rate waits, and every byte arrives in its place.
func TestStreamsAreShaped(t *testing.T) {
	t.Parallel()
	const rate = 2 << 20 // bytes per second, and as many at once
	s := serve(t, func(c *Config) { c.Limits.RatePerAllocation = rate })
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	id, _ := c.attempt()
	d := c.dataConn(s)
	d.must(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))

	data := make([]byte, 2*rate)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	type half struct {
		got []byte
		err error
	}
	began := time.Now()
	halves := make(chan half, 2)
	for _, way := range [][2]net.Conn{{d.conn, peer}, {peer, d.conn}} {
		way[0].SetDeadline(time.Now().Add(time.Minute))
		go way[0].Write(data) // ends with the connection at the latest
		go func() {
			got := make([]byte, len(data))
			_, err := io.ReadFull(way[1], got)
			halves <- half{got, err}
		}()
	}
	for range 2 {
		if h := <-halves; h.err != nil || !bytes.Equal(h.got, data) {
			t.Errorf("what came is not what was sent, %v", h.err)
		}
	}
	// Half of it may pass at once. What waits in buffers beyond the relay is some of the other half.
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("%d bytes took %v at %d per second", len(data), took, rate)
	}
}

// TestSlowTLSClients is TestSlowClients before, during and after a handshake.
func TestSlowTLSClients(t *testing.T) {
	t.Parallel()
	cert, err := certs.SelfSigned(time.Now(), time.Hour, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := certs.WriteFiles(t.TempDir(), cert)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(c *Config) {
		c.Listeners = []ListenerConfig{{Address: netip.MustParseAddrPort("127.0.0.1:0"), Transports: []string{"tls"}}}
		c.TLS.CertFile, c.TLS.KeyFile = certFile, keyFile
		c.Limits.UnauthenticatedTimeout = time.Second
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", s.Addrs("tls")[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	slow := map[string]net.Conn{"silent": dial(), "half a record": dial(), "silent after the handshake": dial(), "half a message": dial()}
	slow["half a record"].Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1})
	for _, name := range []string{"silent after the handshake", "half a message"} {
		conn := tls.Client(slow[name], &tls.Config{InsecureSkipVerify: true})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		slow[name] = conn
	}
	slow["half a message"].Write([]byte{0, 3, 0, 100, 0x21})
	for name, conn := range slow {
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want the connection closed", name, err)
		}
	}
	if n := testutil.ToFloat64(s.metrics.refusal[refusedSlow]); n != float64(len(slow)) {
		t.Errorf("%v of %d were counted", n, len(slow))
	}
}

// TestUnboundPeerIsDropped: a connection of a peer that the client does not bind is closed and forgotten after its time.
func TestUnboundPeerIsDropped(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c, relayed := tcpAllocation(t, s)
	c.must(stun.MethodCreatePermission, peerAttr(somePeer))
	peer := dialPeer(t, relayed)
	id, _ := c.attempt()
	s.mu.Lock()
	s.pending[id].timer.Reset(0) // its time is over
	s.mu.Unlock()
	if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("unbound peer: %v, want the connection closed", err)
	}
	if n := testutil.ToFloat64(s.metrics.refusal[refusedSlow]); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if code := errorCode(c.dataConn(s).ask(stun.MethodConnectionBind, u32(stun.AttrConnectionID, id))); code != 400 {
		t.Errorf("ConnectionBind too late: %d, want 400", code)
	}
	c.must(stun.MethodRefresh) // the allocation goes on
}

// TestTCPPortsRunOut is the "ports" of TestQuotas for TCP allocations, which have a range of their own.
func TestTCPPortsRunOut(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Relay.MinPort, c.Relay.MaxPort = 62210, 62211 })
	first, _ := tcpAllocation(t, s)
	tcpAllocation(t, s)
	third := newClient(t, s, "tcp")
	if code := errorCode(third.ask(stun.MethodAllocate, requestedTransport(protocolTCP))); code != 508 {
		t.Errorf("third allocation: %d, want 508", code)
	}
	if n := testutil.ToFloat64(s.metrics.refusal[refusedPorts]); n != 1 {
		t.Errorf("counted %v times", n)
	}
	newClient(t, s, "udp").allocate() // UDP has its ports still
	first.must(stun.MethodRefresh, lifetimeAttr(0))
	third.must(stun.MethodAllocate, requestedTransport(protocolTCP))
}

// TestDeafClientIsCutOff: a stream client that takes nothing is closed, and counted, once what waits for it has waited its time.
func TestDeafClientIsCutOff(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe() // holds nothing: a full socket
	defer far.Close()
	s := serve(t, nil)
	c := &streamConn{srv: s, nc: timeOut{near}}
	c.reply([]byte("x"))
	if _, err := near.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection: %v, want it closed", err)
	}
	if n := testutil.ToFloat64(s.metrics.refusal[refusedSlow]); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

// timeOut is a connection whose deadlines are over at once.
type timeOut struct{ net.Conn }

func (c timeOut) SetWriteDeadline(time.Time) error { return c.Conn.SetWriteDeadline(time.Unix(1, 0)) }

// TestUnsendableIsCounted: what the kernel does not take is dropped, and said to be.
func TestUnsendableIsCounted(t *testing.T) {
	t.Parallel()
	nowhere := netip.MustParseAddrPort("192.0.2.1:9") // from a loopback address there is no way
	for _, transport := range []string{"udp", "tcp"} {
		s := serve(t, func(c *Config) { c.Policy.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
		c := newClient(t, s, transport)
		c.allocate()
		c.must(stun.MethodChannelBind, channelAttr(0x4000), peerAttr(nowhere))
		c.write(channelFrame(0x4000, []byte("lost"), c.stream))
		eventually(t, transport+": the drop is counted", func() bool { return testutil.ToFloat64(s.metrics.drops[dropSend]) == 1 })
		c.must(stun.MethodRefresh)
	}
}
