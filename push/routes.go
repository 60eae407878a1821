package push

import (
	_ "embed"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

//go:embed openapi.yaml
var openapi []byte

// routes is the gateway's HTTP interface.
func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	if s.cfg.Compat.Enabled {
		r.Post("/api/push", s.serveCompat)
	}
	r.Get("/v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Write(openapi)
	})
	r.Group(func(r chi.Router) {
		r.Use(s.authorize)
		r.Post("/v1/pushes", s.servePushes)
		r.Get("/v1/dead-tokens", s.serveDeadTokens)
		r.Get("/v1/vapid", s.serveVAPID)
	})
	return r
}

func problem(w http.ResponseWriter, status int, kind, title, detail string) {
	p := httpapi.Problem{Type: "/docs/errors#" + kind, Title: title, Status: status, Detail: detail}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		p.RetryAfter = 5 * time.Second
	}
	httpapi.WriteProblem(w, p)
}

// serveCompat answers as gorush does in its default mode: 200 once the messages are queued.
func (s *Server) serveCompat(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, text string) {
		httpapi.WriteJSON(w, status, map[string]any{"code": status, "message": text})
	}
	if !s.authorizeCompat(r) {
		refuse(http.StatusUnauthorized, "address not allowed, and no credentials")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(http.StatusRequestEntityTooLarge, "request body too large")
		return
	}
	messages, err := parseGorush(body, time.Now())
	if err != nil {
		s.metrics.malformed.Inc()
		refuse(http.StatusBadRequest, err.Error())
		return
	}
	answer := gorushAnswer{Success: "ok", Logs: []gorushLog{}}
	full := 0
	for _, m := range messages {
		err := s.disp.Submit(m, nil)
		if err == nil {
			answer.Counts++
			continue
		}
		s.metrics.refused.WithLabelValues(m.Platform.String(), notTaken(err).Reason).Inc()
		if errors.Is(err, dispatch.ErrFull) || errors.Is(err, dispatch.ErrClosed) {
			full++
		}
		answer.Logs = append(answer.Logs, gorushLog{Type: "failed-push", Platform: m.Platform.String(),
			Token: m.Token.String(), Error: err.Error()})
	}
	if full > 0 && full == len(messages) {
		w.Header().Set("Retry-After", "5")
		refuse(http.StatusServiceUnavailable, "queue full")
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, answer)
}

func (s *Server) servePushes(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, "push-too-large", "Request too large", "")
		return
	}
	b, err := parseBatch(raw)
	if err != nil {
		s.metrics.malformed.Inc()
		problem(w, http.StatusBadRequest, "push-malformed", "Request not understood", err.Error())
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, BatchResult{Results: s.batch(r, b)})
}

// batch submits or checks pushes and waits as long as was asked.
func (s *Server) batch(r *http.Request, b *Batch) []PushResult {
	var mu sync.Mutex
	results := make([]PushResult, len(b.Pushes))
	var open sync.WaitGroup
	for i := range b.Pushes {
		m, err := b.Pushes[i].message()
		if err != nil {
			results[i] = PushResult{Status: "invalid", Reason: err.Error()}
			continue
		}
		mu.Lock()
		results[i] = PushResult{Status: "queued"}
		mu.Unlock()
		open.Add(1)
		done := sync.OnceFunc(open.Done)
		err = s.submit(m, b.DryRun, func(res dispatch.Result) {
			mu.Lock()
			results[i] = ended(res)
			mu.Unlock()
			done()
		})
		if err == nil && !b.DryRun {
			continue
		}
		done()
		mu.Lock()
		if results[i] = (PushResult{Status: "valid"}); err != nil {
			results[i] = notTaken(err)
			s.metrics.refused.WithLabelValues(m.Platform.String(), results[i].Reason).Inc()
		}
		mu.Unlock()
	}
	s.wait(r, &open, b.WaitSeconds)
	mu.Lock()
	defer mu.Unlock()
	return append([]PushResult(nil), results...)
}

func (s *Server) submit(m *provider.Message, dry bool, done func(dispatch.Result)) error {
	if dry {
		return s.disp.Check(m)
	}
	return s.disp.Submit(m, done)
}

// wait returns when all have ended, or when the time that was asked for is over.
func (s *Server) wait(r *http.Request, open *sync.WaitGroup, seconds float64) {
	if seconds <= 0 {
		return
	}
	all := make(chan struct{})
	s.waits.Go(func() { // ends with the messages, at latest when the dispatcher has drained
		open.Wait()
		close(all)
	})
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-all:
	case <-timer.C:
	case <-r.Context().Done():
	}
}

const maxDeadPage = 1000

func (s *Server) serveDeadTokens(w http.ResponseWriter, r *http.Request) {
	limit := 100
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxDeadPage {
			problem(w, http.StatusBadRequest, "push-malformed", "Request not understood", "limit is not 1 to 1000")
			return
		}
		limit = n
	}
	page, _ := s.feedback.after(r.URL.Query().Get("after"), limit)
	httpapi.WriteJSON(w, http.StatusOK, page)
}

// VAPIDKey is the answer of GET /v1/vapid.
type VAPIDKey struct {
	PublicKey string `json:"public_key"` // base64url of the uncompressed point, as apps give it when they subscribe
}

func (s *Server) serveVAPID(w http.ResponseWriter, _ *http.Request) {
	if s.senders.vapid == nil {
		problem(w, http.StatusNotFound, "push-off", "UnifiedPush is turned off", "")
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, VAPIDKey{PublicKey: s.senders.vapid.PublicKey()})
}
