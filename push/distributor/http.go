package distributor

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
)

const maxTopics = 256 // in one receiving request

var topicPattern = regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`)

func (s *Server) topicOK(t string) bool {
	return topicPattern.MatchString(t) && strings.HasPrefix(t, s.cfg.Prefix)
}

// Handler returns the routes.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	path := strings.TrimPrefix(r.URL.Path, "/")
	names, kind, nested := strings.Cut(path, "/")
	switch {
	case r.Method == http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, PUT, POST")
		h.Set("Access-Control-Allow-Headers", "*")
		w.WriteHeader(http.StatusNoContent)
	case path == "v1/health" && get(r):
		writeLine(w, `{"healthy":true}`)
	case path == "" && get(r):
		h.Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "UnifiedPush distributor server. Point a distributor app here, for instance ntfy.\n")
	case !nested && s.topicOK(path) && (r.Method == http.MethodPost || r.Method == http.MethodPut):
		s.publish(w, r, path)
	case !nested && s.topicOK(path) && get(r):
		writeLine(w, `{"unifiedpush":{"version":1}}`)
	case nested && get(r):
		s.receive(w, r, names, kind)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func get(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

func writeLine(w http.ResponseWriter, line string) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, line+"\n")
}

// refuse answers in ntfy's form, which its apps show to people.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Code  int    `json:"code"`
		HTTP  int    `json:"http"`
		Error string `json:"error"`
	}{status*100 + 1, status, text})
}

// client returns the address to account a request to, an IPv6 one by its /64, and whether limits apply to it.
func (s *Server) client(r *http.Request) (addr netip.Addr, limited bool) {
	addr = httpapi.ClientIP(r, s.cfg.Trusted)
	for _, n := range s.cfg.Exempt {
		if n.Contains(addr) {
			return addr, false
		}
	}
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr(), true
		}
	}
	return addr, true
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request, topic string) {
	if addr, limited := s.client(r); limited {
		if wait := s.rates.take(addr, time.Now()); wait > 0 {
			w.Header().Set("Retry-After", httpapi.RetryAfter(wait))
			refuse(w, http.StatusTooManyRequests, "limit reached: too many requests")
			return
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "body not readable")
		return
	case len(body) > maxBody:
		refuse(w, http.StatusRequestEntityTooLarge, "message too large: at most 4096 bytes")
		return
	}
	m := &message{topic: topic, body: body, ttl: s.cfg.Keep}
	if err := s.webPush(r.Header, m); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if len(body) == 0 {
		m.body, m.binary = []byte("triggered"), false // as ntfy does; receivers take an empty message for none
	}
	if _, err := s.store.add(r.Context(), m); err != nil {
		s.refuseWrite(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("TTL", strconv.FormatInt(int64(m.ttl/time.Second), 10)) // RFC 8030 §5.2: the life it really has
	w.Write(append(m.appendJSON(nil), '\n'))
}

var webPushTopic = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// webPush reads the headers of RFC 8030. Urgency does not matter to a receiver that has a connection.
func (s *Server) webPush(h http.Header, m *message) error {
	m.binary = h.Get("Content-Encoding") == "aes128gcm"
	if v := h.Get("TTL"); v != "" {
		secs, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return errors.New("TTL is not a number of seconds")
		}
		m.ttl = min(time.Duration(secs)*time.Second, s.cfg.Keep)
	}
	if m.collapse = h.Get("Topic"); m.collapse != "" && !webPushTopic.MatchString(m.collapse) {
		return errors.New("header Topic is not up to 32 characters of base64url")
	}
	return nil
}

func (s *Server) refuseWrite(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errStoreFull):
		refuse(w, http.StatusInsufficientStorage, "too many messages kept")
	case errors.Is(err, errStoreClosed):
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "shutting down")
	default:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "message not kept")
	}
}

// param reads a parameter of ntfy, which may also come under other names or in a header.
func param(r *http.Request, names ...string) string {
	q := r.URL.Query()
	for _, n := range names {
		if v := q.Get(n); v != "" {
			return v
		}
		if v := r.Header.Get("X-" + n); v != "" {
			return v
		}
	}
	return ""
}

func (s *Server) receive(w http.ResponseWriter, r *http.Request, names, kind string) {
	topics := strings.Split(names, ",")
	if len(topics) > maxTopics {
		refuse(w, http.StatusBadRequest, "too many topics")
		return
	}
	seen := make(map[string]bool, len(topics))
	list := topics[:0]
	for _, t := range topics {
		if !s.topicOK(t) {
			refuse(w, http.StatusNotFound, "page not found")
			return
		}
		if !seen[t] {
			seen[t] = true
			list = append(list, t)
		}
	}
	poll := truth(param(r, "poll", "po"))
	pos, ok := parseSince(param(r, "since", "si"), poll, time.Now())
	if !ok {
		refuse(w, http.StatusBadRequest, "invalid since parameter")
		return
	}
	addr, limited := s.client(r)
	rec := &receiver{topics: list, names: names, addr: addr}
	switch {
	case kind == "auth":
		writeLine(w, `{"success":true}`)
	case poll && (kind == "json" || kind == "sse"):
		s.poll(w, r, rec, pos, kind == "sse")
	case kind == "json" || kind == "sse":
		s.stream(w, r, rec, pos, limited, kind == "sse")
	case kind == "ws":
		s.websocket(w, r, rec, pos, limited)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func truth(v string) bool {
	return v == "1" || strings.EqualFold(v, "true") || strings.EqualFold(v, "yes")
}

// poll sends what was kept and ends.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, rec *receiver, pos position, sse bool) {
	streamHeader(w.Header(), sse)
	for {
		read := func() ([]*message, error) { return s.store.after(r.Context(), rec.topics, pos.after, time.Now()) }
		if pos.latest {
			read = func() ([]*message, error) { return s.store.latest(r.Context(), rec.topics, time.Now()) }
		}
		page, err := read()
		if err != nil {
			panic(http.ErrAbortHandler) // the client must not take what it has for all there is
		}
		var b []byte
		for _, m := range page {
			b = appendFrame(b, sse, eventMessage, m.appendJSON(nil))
			pos.after = m.seq
		}
		if _, err := w.Write(b); err != nil || pos.latest || len(page) < pageLen {
			return
		}
	}
}

func streamHeader(h http.Header, sse bool) {
	h.Set("Content-Type", "application/x-ndjson; charset=utf-8")
	if sse {
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
	}
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would keep lines back
}

// appendFrame appends an event in the stream's form.
func appendFrame(dst []byte, sse bool, event string, object []byte) []byte {
	if !sse {
		return append(append(dst, object...), '\n')
	}
	if event != eventMessage {
		dst = append(append(append(dst, "event: "...), event...), '\n')
	}
	dst = append(append(dst, "data: "...), object...)
	return append(dst, "\n\n"...)
}

func refuseReceiver(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "30")
	if errors.Is(err, errPerAddress) {
		refuse(w, http.StatusTooManyRequests, "limit reached: too many active subscriptions")
		return
	}
	refuse(w, http.StatusServiceUnavailable, strings.TrimPrefix(err.Error(), "distributor: "))
}
