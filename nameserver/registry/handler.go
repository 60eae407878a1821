package registry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
)

// longPoll bounds how long a checkpoint request with ?after waits.
const longPoll = 25 * time.Second

// NewHandler serves the log's static resources in the layout of C2SP
// tlog-tiles, and the verifier keys. The paths are below wherever it is
// mounted:
//
//	checkpoint[?after=N[&wait=S]]   the signed checkpoint; waits until its size
//	                       is above N, or for S seconds (at most and by default 25)
//	vkeys                  one verifier key per line, the one in force first
//	tile/<L>/<N>[.p/<W>], tile/entries/<N>[.p/<W>], tile/evidence/<N>[.p/<W>]
//
// Who may read is the caller's to decide: tiles publish the whole directory.
func NewHandler(r Reader) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, q *http.Request) { serveCheckpoint(w, q, r) })
	mux.HandleFunc("GET /vkeys", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, "no-cache")
		_, _ = w.Write([]byte(strings.Join(r.VKeys(), "\n") + "\n"))
	})
	mux.HandleFunc("GET /tile/", func(w http.ResponseWriter, q *http.Request) { serveTile(w, q, r) })
	return mux
}

func plain(w http.ResponseWriter, cache string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", cache)
}

func serveCheckpoint(w http.ResponseWriter, q *http.Request, r Reader) {
	var signed []byte
	var err error
	if after := q.URL.Query().Get("after"); after != "" {
		n, parseErr := strconv.ParseInt(after, 10, 64)
		if parseErr != nil {
			http.Error(w, "after is not a size", http.StatusBadRequest)
			return
		}
		wait := longPoll
		if sec, err := strconv.Atoi(q.URL.Query().Get("wait")); err == nil && sec >= 0 {
			wait = min(wait, time.Duration(sec)*time.Second)
		}
		// The server's write deadline is for answers, not for waiting.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longPoll + 10*time.Second))
		ctx, cancel := context.WithTimeout(q.Context(), wait)
		defer cancel()
		if signed, err = r.WaitCheckpoint(ctx, n); errors.Is(err, context.DeadlineExceeded) {
			signed, err = r.Checkpoint(q.Context())
		}
	} else {
		signed, err = r.Checkpoint(q.Context())
	}
	if err != nil {
		unavailable(w)
		return
	}
	plain(w, "no-cache")
	_, _ = w.Write(signed)
}

func serveTile(w http.ResponseWriter, q *http.Request, r Reader) {
	id, err := ledger.ParseTilePath(strings.TrimPrefix(q.URL.Path, "/"))
	if err != nil {
		http.Error(w, "no such tile", http.StatusNotFound)
		return
	}
	data, err := r.Resource(q.Context(), id)
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, "no such tile", http.StatusNotFound)
		return
	case err != nil:
		unavailable(w)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(data)
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "2")
	http.Error(w, "not ready", http.StatusServiceUnavailable)
}
