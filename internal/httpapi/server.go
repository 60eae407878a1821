// Package httpapi holds what the HTTP servers of all roles share: a server with every limit set, the client's address behind trusted
// proxies, JSON answers and problem details (RFC 9457).
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits bounds what one connection may cost. The zero value of a field means its default.
type Limits struct {
	ReadHeader time.Duration // to receive a request's header; default 10 s
	Read       time.Duration // to receive a whole request; default 30 s
	Write      time.Duration // to send an answer; default 60 s; a streaming route lifts its own
	Idle       time.Duration // between requests; default 120 s
	Header     int           // bytes of a request's header; default 16 KiB
	Body       int64         // bytes of a request's body; default 1 MiB; a longer one fails to read
}

func (l *Limits) fill() {
	set(&l.ReadHeader, 10*time.Second)
	set(&l.Read, 30*time.Second)
	set(&l.Write, 60*time.Second)
	set(&l.Idle, 120*time.Second)
	set(&l.Header, 16<<10)
	set(&l.Body, 1<<20)
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// NewServer returns a server for h under the given limits. Errors of single connections are a stranger's doing and are logged at debug
// level only.
func NewServer(h http.Handler, l Limits, log *slog.Logger) *http.Server {
	l.fill()
	return &http.Server{
		Handler:           http.MaxBytesHandler(h, l.Body),
		ReadHeaderTimeout: l.ReadHeader,
		ReadTimeout:       l.Read,
		WriteTimeout:      l.Write,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.Header,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Serve serves srv on all listeners until ctx is done, then lets requests under way finish for at most drain, and returns when every
// connection has ended. Requests' contexts are done when the drain time is over, so that streams end. It closes the listeners.
func Serve(ctx context.Context, srv *http.Server, drain time.Duration, listeners ...net.Listener) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	srv.BaseContext = func(net.Listener) context.Context { return base }
	failed := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { failed <- srv.Serve(ln) }() // ends with Shutdown or Close below
	}
	var first error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case first = <-failed:
		running--
	}
	shut, cancel := context.WithTimeout(base, drain)
	defer cancel()
	if err := srv.Shutdown(shut); err != nil {
		stop()
		srv.Close()
	}
	for range running {
		<-failed
	}
	if first != nil && !errors.Is(first, http.ErrServerClosed) {
		return fmt.Errorf("http: serve: %w", first)
	}
	return nil
}
