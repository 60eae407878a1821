// Package ops is the operations listener of a server process: /metrics, /healthz, /readyz, on request /debug/pprof/, and what the roles
// add. It is meant for the operator's own machines and listens on loopback by default; it has no authentication of its own.
package ops

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/httpapi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is the ops section of every server's file.
type Config struct {
	Listen string `yaml:"listen"` // host:port of the operations listener; "" turns it off
	Pprof  bool   `yaml:"pprof"`  // serve /debug/pprof/; default false: profiles show memory contents
}

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			p.Add("listen", "must be host:port or empty")
		}
	}
	return p.Err()
}

// Server is the operations listener. Its Addr is known once New has returned.
type Server struct {
	ln  net.Listener // nil when turned off
	srv *http.Server
}

// New listens as cfg says. extra are the roles' own handlers by path. A taken port is an error.
func New(cfg Config, reg prometheus.Gatherer, checks *health.Checks, extra map[string]http.Handler, log *slog.Logger) (*Server, error) {
	if cfg.Listen == "" {
		return &Server{}, nil
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", ready(checks))
	for path, h := range extra {
		mux.Handle(path, h)
	}
	if cfg.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return &Server{ln: ln, srv: httpapi.NewServer(mux, httpapi.Limits{Write: 5 * time.Minute}, log)}, nil
}

// Addr returns the address listened on, or "" when turned off.
func (s *Server) Addr() string {
	if s.ln == nil {
		return ""
	}
	return s.ln.Addr().String()
}

// Close releases the listener of a server that will not run.
func (s *Server) Close() {
	if s.ln != nil {
		s.ln.Close()
	}
}

// Run serves until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	if s.ln == nil {
		<-ctx.Done()
		return nil
	}
	return httpapi.Serve(ctx, s.srv, time.Second, s.ln)
}

type checkAnswer struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
}

// ready answers 200 when every check holds, else 503, with each check by name.
func ready(checks *health.Checks) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := struct {
			Ready  bool          `json:"ready"`
			Checks []checkAnswer `json:"checks"`
		}{Ready: true, Checks: []checkAnswer{}}
		for _, res := range checks.Run(r.Context()) {
			c := checkAnswer{Name: res.Name, Ready: res.Err == nil}
			if res.Err != nil {
				c.Error, answer.Ready = res.Err.Error(), false
			}
			answer.Checks = append(answer.Checks, c)
		}
		status := http.StatusOK
		if !answer.Ready {
			status = http.StatusServiceUnavailable
		}
		httpapi.WriteJSON(w, status, answer)
	}
}
