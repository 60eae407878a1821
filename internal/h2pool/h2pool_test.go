package h2pool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server grants streams streams per connection and counts the most requests it had at once.
func server(t *testing.T, streams int, h http.HandlerFunc) (*httptest.Server, Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, Config{Addr: srv.Listener.Addr().String(), TLS: &tls.Config{RootCAs: roots}}
}

func get(ctx context.Context, p *Pool, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		return "", err
	}
	res, err := p.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestFewConnectionsManyStreams(t *testing.T) {
	var now, most atomic.Int32
	srv, cfg := server(t, 10, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		io.Copy(w, r.Body)
	})
	p := New(cfg)
	defer p.Close()
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			if s, err := get(t.Context(), p, srv.URL); s != "x" || err != nil {
				t.Errorf("answer %q, %v", s, err)
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Opened > 2 || s.Waiting != 0 || s.InFlight != 0 {
		t.Errorf("stats %+v", s)
	}
	if m := most.Load(); m > 20 {
		t.Errorf("%d requests at once", m)
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	release := make(chan struct{})
	srv, cfg := server(t, 1, func(http.ResponseWriter, *http.Request) { <-release })
	cfg.MaxConns = 1
	p := New(cfg)
	defer p.Close()
	var wg sync.WaitGroup
	wg.Go(func() { get(t.Context(), p, srv.URL) })
	for p.Stats().InFlight == 0 {
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := get(ctx, p, srv.URL); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting request: %v", err)
	}
	if n := p.Stats().Waiting; n != 0 {
		t.Errorf("%d still waiting", n)
	}
	close(release)
	wg.Wait()
}

func TestDialFailureReachesAllWaiters(t *testing.T) {
	p := New(Config{Addr: "127.0.0.1:1", DialTimeout: time.Second})
	defer p.Close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := get(t.Context(), p, "https://127.0.0.1:1/"); err == nil {
				t.Error("a request succeeded")
			}
		})
	}
	wg.Wait()
}

func TestClose(t *testing.T) {
	srv, cfg := server(t, 10, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	p := New(cfg)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := get(t.Context(), p, srv.URL); err == nil {
				t.Error("a request succeeded")
			}
		})
	}
	for p.Stats().InFlight == 0 {
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
	p.Close()
	wg.Wait()
	if _, err := get(t.Context(), p, srv.URL); !errors.Is(err, ErrClosed) {
		t.Errorf("request after Close: %v", err)
	}
}

// deaf is a connection whose path can be cut without either side being told.
type deaf struct {
	net.Conn
	cut    atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.cut.Load() {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// TestPing: an idle connection whose path is gone is found out by PING and dropped before a request needs it.
func TestPing(t *testing.T) {
	srv, cfg := server(t, 10, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	first := &deaf{closed: make(chan struct{})}
	cfg.PingEvery, cfg.PingTimeout = 50*time.Millisecond, 50*time.Millisecond
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil && first.Conn == nil {
			first.Conn = c
			return first, nil
		}
		return c, err
	}
	p := New(cfg)
	defer p.Close()
	if s, err := get(t.Context(), p, srv.URL); s != "x" || err != nil {
		t.Fatalf("answer %q, %v", s, err)
	}
	first.cut.Store(true)
	select {
	case <-first.closed:
	case <-time.After(30 * time.Second):
		t.Fatal("a dead connection is kept")
	}
	if s, err := get(t.Context(), p, srv.URL); s != "x" || err != nil || p.Stats().Opened != 2 {
		t.Errorf("afterwards: %q, %v, %+v", s, err, p.Stats())
	}
}
