package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/peer/turnclient"
	"github.com/pion/stun/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a TURN server on loopback that answers by the book and relays nothing; requests of the methods in it get an error.
type fake map[stun.Method]stun.ErrorCode

var fakeKey = stun.NewLongTermIntegrity("ring", "north", "ring")

func (f fake) answer(b []byte, client netip.AddrPort) []byte {
	m := stun.New()
	if stun.Decode(b, m) != nil || m.Type.Class != stun.ClassRequest {
		return nil
	}
	code := f[m.Type.Method]
	signed := m.Contains(stun.AttrMessageIntegrity)
	if !signed && m.Type.Method != stun.MethodBinding {
		code = stun.CodeUnauthorized
	}
	resp := stun.New()
	resp.TransactionID, resp.Type = m.TransactionID, stun.NewType(m.Type.Method, stun.ClassSuccessResponse)
	if code != 0 {
		resp.Type.Class = stun.ClassErrorResponse
	}
	resp.WriteHeader()
	if code != 0 {
		_ = stun.ErrorCodeAttribute{Code: code, Reason: []byte("because")}.AddTo(resp)
		_ = stun.NewRealm("north").AddTo(resp)
		_ = stun.NewNonce("nonce").AddTo(resp)
	} else {
		a := stun.XORMappedAddress{IP: client.Addr().AsSlice(), Port: int(client.Port())}
		_ = a.AddToAs(resp, stun.AttrXORMappedAddress)
		_ = a.AddToAs(resp, stun.AttrXORRelayedAddress) // nobody there answers a ping
		resp.Add(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, 600))
	}
	if signed {
		_ = fakeKey.AddTo(resp)
	}
	return resp.Raw
}

// udp serves datagrams until the test ends.
func (f fake) udp(t *testing.T) uint16 {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if resp := f.answer(b[:n], from); resp != nil && f != nil {
				conn.WriteToUDPAddrPort(resp, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// listen serves each connection with f until the test ends.
func listen(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			serve(conn)
			conn.Close()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// certificate returns one for a host, and a pool that trusts it.
func certificate(t *testing.T, host string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	cert, err := certs.SelfSigned(time.Now(), time.Hour, host)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return cert, roots
}

func closedPort(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

func server(transport turnclient.Transport, port uint16) TURNConfig {
	return TURNConfig{Server: turnclient.Server{Host: "127.0.0.1", Port: port, Transport: transport}, Username: "ring", Password: "ring", Timeout: time.Second}
}

// Each thing that can be wrong is named at the step where it shows.
func TestProblems(t *testing.T) {
	elsewhere, roots := certificate(t, "relay.example.org")
	here, _ := certificate(t, "127.0.0.1")
	secure := func(t *testing.T, cert tls.Certificate) uint16 {
		return listen(t, func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		})
	}
	for name, tt := range map[string]struct {
		cfg     func(t *testing.T) TURNConfig
		step    string
		problem Problem
	}{
		"name": {func(t *testing.T) TURNConfig {
			return TURNConfig{Server: turnclient.Server{Host: "relay..example", Port: 3478}, Timeout: time.Second}
		}, "resolve", NoName},
		"refused":      {func(t *testing.T) TURNConfig { return server(turnclient.TCP, closedPort(t)) }, "connect", Refused},
		"refused udp":  {func(t *testing.T) TURNConfig { return server(turnclient.UDP, closedPort(t)) }, "binding", Refused},
		"refused dtls": {func(t *testing.T) TURNConfig { return server(turnclient.DTLS, closedPort(t)) }, "connect", Refused},
		"no udp":       {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake(nil).udp(t)) }, "binding", NoAnswer},
		"tls name": {func(t *testing.T) TURNConfig {
			cfg := server(turnclient.TLS, secure(t, elsewhere))
			cfg.TLS = &tls.Config{RootCAs: roots}
			return cfg
		}, "connect", TLSName},
		"tls trust": {func(t *testing.T) TURNConfig { return server(turnclient.TLS, secure(t, here)) }, "connect", TLSTrust},
		"no tls": {func(t *testing.T) TURNConfig {
			return server(turnclient.TLS, listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }))
		}, "connect", TLSFailed},
		"not turn": {func(t *testing.T) TURNConfig {
			return server(turnclient.TCP, listen(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-server\r\n") }))
		}, "binding", NotTURN},
		"password":  {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodAllocate: 401}.udp(t)) }, "allocate", Credentials},
		"quota":     {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodAllocate: 486}.udp(t)) }, "allocate", Quota},
		"capacity":  {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodAllocate: 508}.udp(t)) }, "allocate", Capacity},
		"alternate": {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodAllocate: 300}.udp(t)) }, "allocate", Elsewhere},
		"transport": {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodAllocate: 442}.udp(t)) }, "allocate", Unsupported},
		"policy": {func(t *testing.T) TURNConfig {
			return server(turnclient.UDP, fake{stun.MethodCreatePermission: 403}.udp(t))
		}, "permission", Forbidden},
		"relay ports": {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{}.udp(t)) }, "relay", RelayUnreached},
		"other":       {func(t *testing.T) TURNConfig { return server(turnclient.UDP, fake{stun.MethodBinding: 500}.udp(t)) }, "binding", Other},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []string
			cfg := tt.cfg(t)
			cfg.Observe = func(s Step) { seen = append(seen, s.Name) }
			report := TURN(t.Context(), cfg)
			last := report.Steps[len(report.Steps)-1]
			if report.OK || last.OK || last.Name != tt.step || last.Problem != tt.problem || last.Hint == "" && tt.problem != Other || last.Error == "" {
				t.Errorf("%+v, want %s at %s", report, tt.problem, tt.step)
			}
			if names := stepNames(report); !slices.Equal(seen, names) {
				t.Errorf("observed %v of %v", seen, names)
			}
		})
	}
}

func stepNames(r Report) (names []string) {
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return names
}

func TestHints(t *testing.T) {
	for _, p := range codes {
		if hints[p] == "" {
			t.Errorf("no hint for %s", p)
		}
	}
	if p := diagnose(errors.New("anything")); p != Other {
		t.Errorf("diagnose = %s, want %s", p, Other)
	}
}
