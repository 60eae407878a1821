package turn

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/peer/turnclient"
)

// relayPatience bounds the start of a server, and a call of the peer's client.
const relayPatience = 60 * time.Second

// relayServer is a TURN server that the peer's client is tried against.
type relayServer struct {
	name  string
	at    func(turnclient.Transport, string) turnclient.Server // by transport and IP address
	roots *x509.CertPool                                       // nil: its certificate is not looked at
}

// relayServers are coturn's and ours, with the user ring.
func relayServers(t *testing.T) []relayServer {
	t.Helper()
	ours := serve(t)
	return []relayServer{startCoturn(t, freePorts(t), "-a", "-u", "ring:ring").relayServer, {name: "jirani",
		at: func(transport turnclient.Transport, ip string) turnclient.Server {
			return serverAt(transport, ip, portOf(t, ours, transport.String(), ip))
		}}}
}

func serverAt(transport turnclient.Transport, ip, port string) turnclient.Server {
	n, _ := strconv.ParseUint(port, 10, 16)
	return turnclient.Server{Host: ip, Port: uint16(n), Transport: transport}
}

// coturn is one process of coturn's server.
type coturn struct {
	relayServer
	cmd *exec.Cmd
}

// freePorts returns two ports that were free for UDP and TCP.
func freePorts(t *testing.T) (ports [2]string) {
	t.Helper()
	for i := range ports {
		for ports[i] == "" {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			if pc, err := net.ListenPacket("udp", "127.0.0.1:"+port); err == nil {
				defer pc.Close()
				ports[i] = port
			}
		}
	}
	return ports
}

// startCoturn runs coturn's server on both loopback addresses, ports for plain and for TLS and DTLS, until the test ends.
func startCoturn(t *testing.T, ports [2]string, args ...string) *coturn {
	t.Helper()
	path := program.Require(t, "turnserver")
	dir := t.TempDir()
	cert, err := certs.SelfSigned(time.Now(), time.Hour, "127.0.0.1", "::1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := certs.WriteFiles(dir, cert)
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	c := &coturn{relayServer: relayServer{name: "coturn", roots: x509.NewCertPool(),
		at: func(transport turnclient.Transport, ip string) turnclient.Server {
			if transport == turnclient.TLS || transport == turnclient.DTLS {
				return serverAt(transport, ip, ports[1])
			}
			return serverAt(transport, ip, ports[0])
		}}}
	pem, _ := os.ReadFile(certFile)
	c.roots.AppendCertsFromPEM(pem)
	c.cmd = exec.Command(path, append([]string{"-n", "--no-cli", "--no-rfc5780", "--allow-loopback-peers", "-r", "north",
		"-L", "127.0.0.1", "-L", "::1", "-E", "127.0.0.1", "-E", "::1", "-p", ports[0], "--tls-listening-port", ports[1],
		"--cert", certFile, "--pkey", keyFile, "-l", log, "--simple-log", "--no-stdout-log", "--pidfile", filepath.Join(dir, "pid"),
		"-b", filepath.Join(dir, "db"), "-m", "2"}, args...)...)
	c.cmd.Dir = dir
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if b, _ := os.ReadFile(log); t.Failed() {
			t.Logf("coturn: %s", b[max(0, len(b)-8000):])
		}
	})
	for _, ip := range []string{"127.0.0.1", "::1"} {
		awaitServer(t, c.at(turnclient.UDP, ip), nil)
		awaitServer(t, c.at(turnclient.TCP, ip), nil)
	}
	return c
}

// kill ends it as kill -9 does.
func (c *coturn) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// dialer connects to servers; nil is package net's.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// awaitServer waits until a server answers a Binding request.
func awaitServer(t *testing.T, server turnclient.Server, dial dialer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relayPatience)
	defer cancel()
	for {
		err := bindingOnce(ctx, server, dial)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v does not answer: %v", server, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func bindingOnce(ctx context.Context, server turnclient.Server, dial dialer) error {
	timing := turnclient.Timing{RTO: 100 * time.Millisecond, Rc: 3, Stream: 5 * time.Second}
	c, err := turnclient.Dial(ctx, server, turnclient.Config{Timing: timing, Dial: dial})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Binding(ctx)
	return err
}

// peerConfig is the client's for a server: user ring.
func (s relayServer) peerConfig() turnclient.Config {
	return turnclient.Config{Username: "ring", Password: "ring", TLS: &tls.Config{RootCAs: s.roots, InsecureSkipVerify: s.roots == nil}}
}

// peerClient connects until the test ends.
func peerClient(t *testing.T, server turnclient.Server, cfg turnclient.Config) *turnclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relayPatience)
	defer cancel()
	c, err := turnclient.Dial(ctx, server, cfg)
	if err != nil {
		t.Fatalf("Dial %v: %v", server, err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close %v: %v", server, err)
		}
	})
	return c
}

// within is a context for one step.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), relayPatience)
	t.Cleanup(cancel)
	return ctx
}

// timeLimited makes credentials as a TURN REST service does: the password is the HMAC of a name that begins with its expiry.
func timeLimited(secret string) (user, password string) {
	user = fmt.Sprintf("%d:bob", time.Now().Add(time.Hour).Unix())
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(user))
	return user, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func isCode(err error, code int) bool {
	var e *turnclient.Error
	return errors.As(err, &e) && e.Code == code
}

func addrPortOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
