package httpapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/logging"
	"go.uber.org/goleak"
)

func TestClientIP(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct{ name, remote, forwarded, want string }{
		{"direct", "203.0.113.5:1", "", "203.0.113.5"},
		{"stranger forging", "203.0.113.5:1", "198.51.100.1", "203.0.113.5"},
		{"one proxy", "10.0.0.1:1", "198.51.100.1", "198.51.100.1"},
		{"chain, forged front", "10.0.0.1:1", "1.2.3.4, 198.51.100.1, 10.9.9.9", "198.51.100.1"},
		{"all trusted", "10.0.0.1:1", "10.0.0.2", "10.0.0.2"},
		{"garbage", "10.0.0.1:1", "198.51.100.1, pear", "10.0.0.1"},
		{"mapped", "[::ffff:10.0.0.1]:1", "::ffff:198.51.100.1", "198.51.100.1"},
		{"six", "[fd00::1]:1", "2001:db8::7", "2001:db8::7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.remote
			if tt.forwarded != "" {
				r.Header.Set("X-Forwarded-For", tt.forwarded)
			}
			if got := ClientIP(r, trusted); got != netip.MustParseAddr(tt.want) {
				t.Errorf("ClientIP = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	WriteProblem(w, Problem{Type: "/docs/errors#busy", Title: "Busy", Status: 503, RetryAfter: 1200 * time.Millisecond})
	if w.Code != 503 || w.Header().Get("Retry-After") != "2" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("answer = %d %v", w.Code, w.Header())
	}
	if want := `{"type":"/docs/errors#busy","title":"Busy","status":503}` + "\n"; w.Body.String() != want {
		t.Errorf("body = %s, want %s", w.Body, want)
	}
}

func TestServeDrainsThenStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	entered, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			close(entered)
			<-r.Context().Done()
			close(release)
			return
		}
		io.Copy(io.Discard, r.Body)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, NewServer(h, Limits{Body: 10}, logging.Discard()), 50*time.Millisecond, ln)
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + ln.Addr().String() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-entered
	cancel()
	<-release // the stream's context ends when the drain time is over
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestBodyLimit(t *testing.T) {
	var got error
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, got = io.ReadAll(r.Body) })
	srv := NewServer(h, Limits{Body: 10}, logging.Discard())
	srv.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader("eleven bytes")))
	if got == nil {
		t.Error("a body over the limit was read whole")
	}
}
