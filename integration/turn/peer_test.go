package turn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jirani/jirani/peer/doctor"
	"github.com/jirani/jirani/peer/turnclient"
	"github.com/pion/stun/v3"
)

var loopbacks = []string{"127.0.0.1", "::1"}

// TestPeerDatagrams has two clients of a relay reach each other through their relayed addresses, over every transport and family.
func TestPeerDatagrams(t *testing.T) {
	for _, s := range relayServers(t) {
		for _, transport := range []turnclient.Transport{turnclient.UDP, turnclient.TCP, turnclient.TLS, turnclient.DTLS} {
			for _, ip := range loopbacks {
				t.Run(fmt.Sprint(s.name, " ", transport, " ", ip), func(t *testing.T) {
					one, two := peerAllocation(t, s, transport, ip), peerAllocation(t, s, transport, ip)
					if err := one.CreatePermission(within(t), two.Relayed()[0], netip.AddrPortFrom(two.Mapped().Addr(), 9)); err != nil {
						t.Fatal(err)
					}
					if err := two.CreatePermission(within(t), one.Relayed()[0]); err != nil {
						t.Fatal(err)
					}
					echoBetween(t, one, two) // indications
					if err := two.BindChannel(within(t), one.Relayed()[0]); err != nil {
						t.Fatal(err)
					}
					echoBetween(t, one, two) // ChannelData on one side
					if err := one.BindChannel(within(t), two.Relayed()[0]); err != nil {
						t.Fatal(err)
					}
					echoBetween(t, one, two)
				})
			}
		}
	}
}

func peerAllocation(t *testing.T, s relayServer, transport turnclient.Transport, ip string) *turnclient.Allocation {
	t.Helper()
	a, err := peerClient(t, s.at(transport, ip), s.peerConfig()).Allocate(within(t), turnclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Relayed()[0].Addr(); got.String() != ip || a.Mapped().Addr().String() != ip {
		t.Errorf("relayed at %v for %v, want %s", got, a.Mapped(), ip)
	}
	return a
}

// echoBetween exchanges datagrams of every padding, the empty one too, again where one gets lost.
func echoBetween(t *testing.T, one, two *turnclient.Allocation) {
	t.Helper()
	for _, size := range []int{0, 1, 2, 3, 4, 5, 172, 1200} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		deadline := time.Now().Add(relayPatience)
		for !echoes(one, two, payload) {
			if time.Now().After(deadline) || one.Err() != nil || two.Err() != nil {
				t.Fatalf("%d bytes do not come from %v to %v and back; %v, %v", size, one.LocalAddr(), two.LocalAddr(), one.Err(), two.Err())
			}
		}
	}
}

func echoes(one, two *turnclient.Allocation, payload []byte) bool {
	deadline := time.Now().Add(time.Second)
	one.SetReadDeadline(deadline)
	two.SetReadDeadline(deadline)
	if _, err := one.WriteTo(payload, two.LocalAddr()); err != nil {
		return false
	}
	return receives(two, one.LocalAddr(), payload) && answers(two, one, payload)
}

func answers(two, one *turnclient.Allocation, payload []byte) bool {
	_, err := two.WriteTo(payload, one.LocalAddr())
	return err == nil && receives(one, two.LocalAddr(), payload)
}

// receives passes over what came late.
func receives(a *turnclient.Allocation, from net.Addr, payload []byte) bool {
	buf := make([]byte, 2000)
	for {
		n, addr, err := a.ReadFrom(buf)
		if err != nil {
			return false
		}
		if addr.String() == from.String() && bytes.Equal(buf[:n], payload) {
			return true
		}
	}
}

// TestPeerBothFamilies asks for two relayed addresses. coturn 4.6.1 knows a draft's number of the attribute and gives one.
func TestPeerBothFamilies(t *testing.T) {
	for _, s := range relayServers(t) {
		a, err := peerClient(t, s.at(turnclient.UDP, "127.0.0.1"), s.peerConfig()).Allocate(within(t), turnclient.Options{Family: turnclient.Both})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Relayed(); s.name == "jirani" && (len(got) != 2 || !got[0].Addr().Is4() || !got[1].Addr().Is6()) || len(got) == 0 {
			t.Errorf("%s relays at %v", s.name, got)
		}
	}
}

const fileSize = 5 << 20

// TestPeerStreams has the relay of one client connect to that of another (RFC 6062 both ways), and a file go through both, in each direction.
func TestPeerStreams(t *testing.T) {
	for _, s := range relayServers(t) {
		for _, transport := range []turnclient.Transport{turnclient.TCP, turnclient.TLS} {
			for _, ip := range loopbacks {
				t.Run(fmt.Sprint(s.name, " ", transport, " ", ip), func(t *testing.T) {
					one, two := peerTCPAllocation(t, s, transport, ip), peerTCPAllocation(t, s, transport, ip)
					if err := one.CreatePermission(within(t), two.Relayed()...); err != nil {
						t.Fatal(err)
					}
					if err := two.CreatePermission(within(t), one.Relayed()...); err != nil {
						t.Fatal(err)
					}
					active, err := one.Dial(within(t), two.Relayed()[0])
					if err != nil {
						t.Fatal(err)
					}
					defer active.Close()
					passive, err := two.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer passive.Close()
					if got := passive.RemoteAddr().String(); addrPortOf(passive.RemoteAddr()).Addr() != one.Relayed()[0].Addr() {
						t.Errorf("the peer is %s, want %v", got, one.Relayed()[0])
					}
					sendFile(t, active, passive)
					sendFile(t, passive, active)
				})
			}
		}
	}
}

func peerTCPAllocation(t *testing.T, s relayServer, transport turnclient.Transport, ip string) *turnclient.TCPAllocation {
	t.Helper()
	a, err := peerClient(t, s.at(transport, ip), s.peerConfig()).AllocateTCP(within(t), turnclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sendFile sends bytes of chance and compares their sums.
func sendFile(t *testing.T, from, to net.Conn) {
	t.Helper()
	deadline := time.Now().Add(relayPatience)
	from.SetDeadline(deadline)
	to.SetDeadline(deadline)
	sent, got := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() { // ends with the bytes, or the deadline
		_, err := io.CopyN(io.MultiWriter(from, sent), rand.NewChaCha8([32]byte{1}), fileSize)
		failed <- err
	}()
	_, err := io.CopyN(got, to, fileSize)
	if err := errors.Join(err, <-failed); err != nil || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Fatalf("file from %v to %v: %v", from.LocalAddr(), to.LocalAddr(), err)
	}
}

// TestPeerAccept: a peer that has no relay connects, and talks before it is accepted. One without permission is turned away, and one that
// nobody answers is told of.
func TestPeerAccept(t *testing.T) {
	for _, s := range relayServers(t) {
		t.Run(s.name, func(t *testing.T) {
			a := peerTCPAllocation(t, s, turnclient.TCP, "127.0.0.1")
			refused := dialRelay(t, a)
			refused.SetDeadline(time.Now().Add(relayPatience))
			if _, err := refused.Read(make([]byte, 1)); err == nil {
				t.Error("a peer without permission is let in")
			}
			if err := a.CreatePermission(within(t), netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
				t.Fatal(err)
			}
			peer := dialRelay(t, a)
			if _, err := peer.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			conn, err := a.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(relayPatience))
			got := make([]byte, 5)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "first" || conn.RemoteAddr().String() != peer.LocalAddr().String() {
				t.Errorf("accepted %v with %q, %v", conn.RemoteAddr(), got, err)
			}
			peer.(*net.TCPConn).SetLinger(0) // a reset
			peer.Close()
			if _, err := conn.Read(got); err == nil {
				t.Error("the peer's reset is not seen")
			}
			if _, err := a.Dial(within(t), unused(t)); !isCode(err, int(stun.CodeConnTimeoutOrFailure)) {
				t.Errorf("Dial to nobody: %v, want 447", err)
			}
		})
	}
}

func dialRelay(t *testing.T, a *turnclient.TCPAllocation) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// unused is an address where nobody listens.
func unused(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return addrPortOf(ln.Addr())
}

// TestPeerCredentials: time-limited ones, and what is said of wrong ones.
func TestPeerCredentials(t *testing.T) {
	ours := serve(t)
	secret := startCoturn(t, freePorts(t), "--use-auth-secret", "--static-auth-secret", sharedSecret)
	for name, server := range map[string]turnclient.Server{"coturn": secret.at(turnclient.UDP, "127.0.0.1"),
		"jirani": serverAt(turnclient.UDP, "127.0.0.1", portOf(t, ours, "udp", "127.0.0.1"))} {
		user, password := timeLimited(sharedSecret)
		if _, err := peerClient(t, server, turnclient.Config{Username: user, Password: password}).Allocate(within(t), turnclient.Options{}); err != nil {
			t.Errorf("%s with time-limited credentials: %v", name, err)
		}
		for _, wrong := range []turnclient.Config{{Username: user, Password: "x"}, {Username: "nobody", Password: "x"}, {}} {
			if _, err := peerClient(t, server, wrong).Allocate(within(t), turnclient.Options{}); !isCode(err, int(stun.CodeUnauthorized)) {
				t.Errorf("%s with %q: %v, want 401", name, wrong.Username, err)
			}
		}
	}
}

// TestPeerPolicy: coturn forbids a whole CreatePermission for one peer; ours forbids channels and connections.
func TestPeerPolicy(t *testing.T) {
	forbidden, allowed := netip.MustParseAddrPort("203.0.113.5:5000"), netip.MustParseAddrPort("127.0.0.1:5000")
	strict := startCoturn(t, freePorts(t), "-a", "-u", "ring:ring", "--denied-peer-ip", "203.0.113.0-203.0.113.255")
	a := peerAllocation(t, strict.relayServer, turnclient.UDP, "127.0.0.1")
	if err := a.CreatePermission(within(t), allowed, forbidden); !isCode(err, int(stun.CodeForbidden)) {
		t.Errorf("coturn: CreatePermission: %v, want 403", err)
	}
	if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(allowed)); err != nil {
		t.Errorf("coturn: the allowed peer: %v", err)
	}
	if _, err := a.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(forbidden)); !errors.Is(err, turnclient.ErrNoPermission) {
		t.Errorf("coturn: the forbidden peer: %v, want %v", err, turnclient.ErrNoPermission)
	}

	ours := serve(t)
	own := relayServer{at: func(transport turnclient.Transport, ip string) turnclient.Server {
		return serverAt(transport, ip, portOf(t, ours, transport.String(), ip))
	}}
	private := netip.MustParseAddrPort("10.0.0.1:5000") // policy.lan is off
	if err := peerAllocation(t, own, turnclient.UDP, "127.0.0.1").BindChannel(within(t), private); !isCode(err, int(stun.CodeForbidden)) {
		t.Errorf("jirani: BindChannel: %v, want 403", err)
	}
	if _, err := peerTCPAllocation(t, own, turnclient.TCP, "127.0.0.1").Dial(within(t), private); !isCode(err, int(stun.CodeForbidden)) {
		t.Errorf("jirani: Dial: %v, want 403", err)
	}
}

// TestPeerStaleNonce: coturn's nonces last a second here, and the allocation outlives several.
func TestPeerStaleNonce(t *testing.T) {
	s := startCoturn(t, freePorts(t), "-a", "-u", "ring:ring", "--stale-nonce=1")
	cfg := s.peerConfig()
	cfg.KeepAlive = 200 * time.Millisecond
	var stale atomic.Int32
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &staleCounter{conn, &stale}, err
	}
	a, err := peerClient(t, s.at(turnclient.UDP, "127.0.0.1"), cfg).Allocate(within(t), turnclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(relayPatience); stale.Load() < 3; <-tick.C {
		if a.Err() != nil || time.Now().After(deadline) {
			t.Fatalf("after %d stale nonces: %v", stale.Load(), a.Err())
		}
	}
	if err := a.CreatePermission(within(t), netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		t.Error(err)
	}
}

// staleCounter counts the 438 answers that come through a connection.
type staleCounter struct {
	net.Conn
	stale *atomic.Int32
}

func (c *staleCounter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	m := stun.New()
	var code stun.ErrorCodeAttribute
	if err == nil && stun.Decode(b[:n], m) == nil && code.GetFrom(m) == nil && code.Code == stun.CodeStaleNonce {
		c.stale.Add(1)
	}
	return n, err
}

// TestDoctor has nothing to say against healthy servers.
func TestDoctor(t *testing.T) {
	for _, s := range relayServers(t) {
		for _, transport := range []turnclient.Transport{turnclient.UDP, turnclient.TCP, turnclient.TLS, turnclient.DTLS} {
			for _, ip := range loopbacks {
				cfg := s.peerConfig()
				report := doctor.TURN(within(t), doctor.TURNConfig{Server: s.at(transport, ip), Username: cfg.Username, Password: cfg.Password, TLS: cfg.TLS})
				if !report.OK || report.NAT != "none" || report.Relayed == "" {
					t.Errorf("%s %v %s: %+v", s.name, transport, ip, report)
				}
			}
		}
	}
}
