package turnserver

import (
	_ "embed"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
)

//go:embed openapi.yaml
var openAPI []byte

const (
	defaultPage = 100
	maxPage     = 1000
)

// Session is one allocation as GET /v1/sessions shows it, to the operator alone.
type Session struct {
	ID          uint64           `json:"id"`
	User        string           `json:"user"`
	Realm       string           `json:"realm"`
	Transport   string           `json:"transport"` // of the client: udp, tcp, tls, dtls
	Client      netip.AddrPort   `json:"client"`
	Server      netip.AddrPort   `json:"server"`
	Relayed     []netip.AddrPort `json:"relayed"`
	TCP         bool             `json:"tcp"` // a TCP allocation (RFC 6062)
	BeganAt     time.Time        `json:"began_at"`
	ExpiresAt   time.Time        `json:"expires_at"`
	Permissions int              `json:"permissions"`
	Channels    int              `json:"channels"`
	Peers       int              `json:"peers"` // TCP peer connections
	PacketsUp   uint64           `json:"packets_up"`
	PacketsDown uint64           `json:"packets_down"`
	BytesUp     uint64           `json:"bytes_up"` // a stream's bytes are counted each 256 KiB and at its end
	BytesDown   uint64           `json:"bytes_down"`
}

// SessionPage is the answer of GET /v1/sessions.
type SessionPage struct {
	Total    int       `json:"total"`
	Sessions []Session `json:"sessions"`
	Next     uint64    `json:"next,omitempty"` // pass as after for the next page; absent at the end
}

// OpsHandlers returns the pages of the operations listener.
func (s *Server) OpsHandlers() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /v1/sessions":          http.HandlerFunc(s.getSessions),
		"GET /v1/kernel_path":       http.HandlerFunc(s.getKernelPath),
		"POST /v1/drain":            http.HandlerFunc(s.postDrain),
		"GET /v1/turn/openapi.yaml": http.HandlerFunc(getOpenAPI),
	}
}

func (s *Server) getSessions(w http.ResponseWriter, r *http.Request) {
	after, err1 := number(r.FormValue("after"), 0)
	limit, err2 := number(r.FormValue("limit"), defaultPage)
	if err1 != nil || err2 != nil || limit < 1 || limit > maxPage {
		httpapi.WriteProblem(w, httpapi.Problem{Status: http.StatusBadRequest, Title: "after and limit are numbers, limit at most 1000"})
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, s.sessions(after, int(limit)))
}

func number(text string, otherwise uint64) (uint64, error) {
	if text == "" {
		return otherwise, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// sessions returns a page in the order in which the allocations were made.
func (s *Server) sessions(after uint64, limit int) SessionPage {
	list := s.all()
	page := SessionPage{Total: len(list), Sessions: []Session{}}
	list = slices.DeleteFunc(list, func(a *alloc) bool { return a.number <= after })
	slices.SortFunc(list, func(a, b *alloc) int { return int(int64(a.number - b.number)) })
	for _, a := range list[:min(limit, len(list))] {
		page.Sessions = append(page.Sessions, a.session(time.Now()))
	}
	if len(list) > limit {
		page.Next = list[limit-1].number
	}
	return page
}

func (a *alloc) session(now time.Time) Session {
	out := Session{ID: a.number, User: a.id.user, Realm: a.id.realm, Transport: a.tuple.transport.String(), Client: a.tuple.client,
		Server: a.tuple.server, TCP: a.tcp != nil, BeganAt: a.began.UTC(), Relayed: []netip.AddrPort{}}
	if a.tcp != nil {
		out.Relayed = append(out.Relayed, a.tcp.relayed())
		a.tcp.mu.Lock()
		out.Peers = len(a.tcp.peers)
		a.tcp.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.countKernel()
	for _, u := range a.udp {
		if u != nil {
			out.Relayed = append(out.Relayed, u.relayed())
		}
	}
	out.ExpiresAt, out.Permissions, out.Channels = a.expiresAt.UTC(), a.perms.Live(now), a.channels.Len()
	out.PacketsUp, out.PacketsDown, out.BytesUp, out.BytesDown = a.up.packets, a.down.packets, a.up.bytes, a.down.bytes
	return out
}

// postDrain stops new allocations; those there are go on. It cannot be undone but by a restart.
func (s *Server) postDrain(w http.ResponseWriter, _ *http.Request) {
	if !s.draining.Swap(true) {
		s.log.Info("draining")
	}
	httpapi.WriteJSON(w, http.StatusOK, map[string]int{"allocations": s.count()})
}

func getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI)
}
