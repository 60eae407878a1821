package push

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jirani/jirani/internal/health"
)

// testConfig is a gateway on loopback with simulated providers.
func testConfig(t *testing.T) Config {
	t.Helper()
	c := Default()
	c.Listen, c.Provider = "127.0.0.1:0", "fake"
	c.Fake.Latency = time.Millisecond
	c.UnifiedPush.VAPIDKeyFile = filepath.Join(t.TempDir(), "vapid.pem")
	c.Queue.Window, c.Queue.Drain = 10*time.Millisecond, 3*time.Second
	return c
}

type gateway struct {
	*Server
	t    *testing.T
	url  string
	reg  *prometheus.Registry
	stop func()
}

func start(t *testing.T, cfg Config) *gateway {
	t.Helper()
	return startLogging(t, cfg, nil)
}

func startLogging(t *testing.T, cfg Config, log *slog.Logger) *gateway {
	t.Helper()
	g := &gateway{t: t, reg: prometheus.NewRegistry()}
	s, err := New(cfg, Deps{Log: log, Metrics: g.reg, Health: new(health.Checks)})
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with cancel
	g.url = "http://" + s.Addr().String()
	if cfg.TLS.Enabled() {
		g.url = "https://" + s.Addr().String()
	}
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) post(path, body string, header ...string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return g.do(http.DefaultClient, req)
}

func (g *gateway) get(path string, header ...string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return g.do(http.DefaultClient, req)
}

func (g *gateway) do(c *http.Client, req *http.Request) (int, string) {
	g.t.Helper()
	res, err := c.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

const hello = `{"key":"39b4be4d1013aebe6628b69ee7f487b9e31e4266","ids":"7","to":"acct1"}`

func batch(pushes ...string) string {
	return `{"wait_seconds":10,"pushes":[` + strings.Join(pushes, ",") + `]}`
}
