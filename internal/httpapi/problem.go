package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Problem is an error answer of our own routes (RFC 9457).
type Problem struct {
	Type       string        `json:"type"`             // stable; a heading in docs/errors.md
	Title      string        `json:"title"`            // the same for every problem of the type
	Status     int           `json:"status"`           // HTTP status
	Detail     string        `json:"detail,omitempty"` // this occurrence, for a person to read
	RetryAfter time.Duration `json:"-"`                // sent as Retry-After in seconds, at least 1; 0 means not sent
}

// WriteProblem sends p as application/problem+json.
func WriteProblem(w http.ResponseWriter, p Problem) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", RetryAfter(p.RetryAfter))
	}
	write(w, p.Status, "application/problem+json", p)
}

// WriteJSON sends v as application/json.
func WriteJSON(w http.ResponseWriter, status int, v any) { write(w, status, "application/json", v) }

func write(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a value of ours that cannot be encoded: a bug, but the client must still get an answer
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// RetryAfter renders a duration as the header's whole seconds, rounded up, at least 1.
func RetryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
