package nameserver

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/nameserver/nameproto"
)

// maxInvite is the most characters of an invite token in the path.
const maxInvite = 128

// routes builds the tree of everything this server answers.
func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	r.Group(s.stockRoutes)
	r.Route("/i/{token}", func(r chi.Router) {
		r.Use(boundedInvite)
		s.stockRoutes(r)
	})
	r.Route("/ledger", s.ledgerRoutes)
	r.Route("/v1", s.ownRoutes)
	r.Group(s.pageRoutes)
	if s.witness != nil {
		r.Method(http.MethodPost, "/witness/add-checkpoint", s.witness)
	}
	r.NotFound(noRoute)
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeBody(w, http.StatusMethodNotAllowed, nameproto.AppendError(nil, "no such method here"))
	})
	return r
}

// noRoute answers what no route matches. A path that begins as a stock one can
// only be an impossible name, and a client must not take that for "taken".
func noRoute(w http.ResponseWriter, r *http.Request) {
	status := http.StatusNotFound
	for _, prefix := range []string{"/name/", "/addr/", "/i/"} {
		if strings.HasPrefix(r.URL.Path, prefix) {
			status = nameproto.StatusMalformed
		}
	}
	body := nameproto.AppendError(nil, "no such route")
	if r.Method == http.MethodPost {
		body = nameproto.AppendFailure(nil, "no such route")
	}
	writeBody(w, status, body)
}

// boundedInvite refuses tokens that no invite has. Lookups under an invite
// work whether it is good or not: a client keeps the URL long after its invite
// is spent.
func boundedInvite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(chi.URLParam(r, "token")) > maxInvite {
			writeBody(w, nameproto.StatusMalformed, nameproto.AppendError(nil, "invite too long"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
