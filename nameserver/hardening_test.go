package nameserver

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/certs"
)

// idleConnections is how many connections the test below holds: 50,000, or as
// many as the file limit allows with both ends in this process.
func idleConnections(t *testing.T) int {
	t.Helper()
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	return min(50_000, int(lim.Max)/2-200)
}

// TestIdleConnectionsAreBounded opens far more connections than are allowed,
// each after a request, and never uses them again: the server keeps to its
// limit and to its memory, and goes on answering.
func TestIdleConnectionsAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	n := idleConnections(t)
	cfg := testConfig()
	cfg.Limits.Connections = n / 2
	cfg.Limits.Idle = time.Hour
	s := start(t, cfg, newMemory().backend())
	before := heap()
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				conns[i] = holdConnection(t, s.Addr())
			}
		})
	}
	wg.Wait()
	eventually(t, "the connections are within the limit", func() bool {
		open, _ := s.conns.counts()
		return open <= cfg.Limits.Connections
	})
	open, shed := s.conns.counts()
	perConn := float64(heap()-before) / float64(open)
	t.Logf("%d opened, %d kept, %d shed; %.1f KiB of heap and stack for each kept, both ends' buffers included", n, open, shed, perConn/1024)
	if shed < n-cfg.Limits.Connections {
		t.Errorf("%d shed, want at least %d", shed, n-cfg.Limits.Connections)
	}
	if perConn > 48<<10 {
		t.Errorf("%.0f bytes for a connection, want under 48 KiB", perConn)
	}
	if status, _, _ := ask(t, s, "GET", "/name/nobody", ""); status != 404 {
		t.Errorf("with all that open: status %d", status)
	}
}

// holdConnection makes one request and keeps the connection.
func holdConnection(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	_, _ = io.WriteString(c, "GET /name/nobody HTTP/1.1\r\nHost: ns\r\n\r\n")
	var b [1024]byte
	_, _ = c.Read(b[:]) // a connection may be shed before it is answered
	return c
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestConnTable holds the order of shedding: the one that waits longest goes,
// one with a request under way never.
func TestConnTable(t *testing.T) {
	table := newConnTable(2)
	var ends []net.Conn
	conn := func() net.Conn {
		a, b := net.Pipe()
		ends = append(ends, a, b)
		return a
	}
	defer func() {
		for _, c := range ends {
			c.Close()
		}
	}()
	a, b, c, d := conn(), conn(), conn(), conn()
	if v := table.change(a, http.StateNew); v != nil {
		t.Error("shed within the limit")
	}
	table.change(b, http.StateNew)
	table.change(a, http.StateActive)
	if v := table.change(c, http.StateNew); v != b {
		t.Errorf("shed %v, want b, which waits longest", v)
	}
	table.change(a, http.StateIdle)
	if v := table.change(d, http.StateNew); v != c {
		t.Errorf("shed %v, want c, which waits longer than a", v)
	}
	table.change(a, http.StateActive)
	table.change(d, http.StateActive)
	if v := table.change(b, http.StateActive); v != nil {
		t.Errorf("shed %v while all are busy", v)
	}
	table.change(b, http.StateClosed)
	table.change(c, http.StateClosed)
	if open, shed := table.counts(); open != 2 || shed != 2 {
		t.Errorf("%d open, %d shed, want 2 and 2", open, shed)
	}
}

// TestSlowClients: header and body that trickle in are cut off in time, and
// others are served meanwhile.
func TestSlowClients(t *testing.T) {
	cfg := testConfig()
	cfg.Limits.ReadHeader, cfg.Limits.Read = 200*time.Millisecond, 400*time.Millisecond
	s := start(t, cfg, newMemory().backend())
	for name, raw := range map[string]string{
		"nothing":        "",
		"half a header":  "POST /name/alice HTTP/1.1\r\nHost: ns\r\nContent-Le",
		"half a body":    "POST /name/alice HTTP/1.1\r\nHost: ns\r\nContent-Length: 1884\r\n\r\n{\"addr\":",
		"endless header": "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10),
		"endless chunks": "POST /name/alice HTTP/1.1\r\nHost: ns\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 8),
	} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, raw) // may be cut off in the middle
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); os.IsTimeout(err) {
			t.Errorf("%s: still open, after %q", name, answer)
		}
		c.Close()
		if status, _, _ := ask(t, s, "GET", "/name/nobody", ""); status != 404 {
			t.Errorf("beside %s: status %d", name, status)
		}
	}
}

// TestTLS serves the same over HTTPS, by HTTP/1.1, and takes up a new
// certificate on reload.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	serial := func(c tls.Certificate) string {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.String()
	}
	issue := func() (tls.Certificate, string, string) {
		cert, err := certs.SelfSigned(time.Now(), time.Hour, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		certFile, keyFile, err := certs.WriteFiles(dir, cert)
		if err != nil {
			t.Fatal(err)
		}
		return cert, certFile, keyFile
	}
	first, certFile, keyFile := issue()
	cfg := testConfig()
	cfg.TLSListen = "127.0.0.1:0"
	cfg.TLS.CertFile, cfg.TLS.KeyFile = certFile, keyFile
	s := start(t, cfg, newMemory().backend())
	get := func() (*http.Response, string) {
		transport := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		res, err := (&http.Client{Transport: transport}).Get("https://" + s.TLSAddr() + "/name/nobody")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res, res.TLS.PeerCertificates[0].SerialNumber.String()
	}
	res, got := get()
	if res.StatusCode != 404 || res.ProtoMajor != 1 || got != serial(first) {
		t.Errorf("status %d, HTTP/%d, certificate %s", res.StatusCode, res.ProtoMajor, got)
	}
	second, _, _ := issue()
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, got := get(); got != serial(second) {
		t.Errorf("certificate %s after the reload, want %s", got, serial(second))
	}
}
