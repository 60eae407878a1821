package ops

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/logging"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t)
	reg := prometheus.NewRegistry()
	hits := prometheus.NewCounter(prometheus.CounterOpts{Name: "hits_total", Help: "Hits."})
	reg.MustRegister(hits)
	var broken error
	var checks health.Checks
	checks.Add("network", func(context.Context) error { return broken })
	extra := map[string]http.Handler{"GET /sessions": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "two") })}
	s, err := New(Config{Listen: "127.0.0.1:0"}, reg, &checks, extra, logging.Discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}()
	want := func(path string, status int, part string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Get("http://" + s.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != status || !strings.Contains(string(body), part) {
			t.Errorf("GET %s = %d %s, want %d with %s", path, res.StatusCode, body, status, part)
		}
	}
	want("/metrics", 200, "hits_total 0")
	want("/healthz", 200, "ok")
	want("/readyz", 200, `{"ready":true,"checks":[{"name":"network","ready":true}]}`)
	broken = errors.New("no good node")
	want("/readyz", 503, `"error":"no good node"`)
	want("/sessions", 200, "two")
	want("/debug/pprof/", 404, "")
	if _, err := New(Config{Listen: s.Addr()}, reg, &checks, nil, logging.Discard()); err == nil {
		t.Error("New on a taken port succeeded")
	}
}

func TestOff(t *testing.T) {
	s, err := New(Config{}, prometheus.NewRegistry(), &health.Checks{}, nil, logging.Discard())
	if err != nil || s.Addr() != "" {
		t.Fatalf("New = %q, %v", s.Addr(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
}
