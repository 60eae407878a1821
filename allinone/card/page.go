package card

import (
	"bytes"
	"embed"
	"errors"
	"net/http"
	"strings"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/webui"
)

//go:embed templates/card.html static/card.js
var files embed.FS

var page = webui.Parse(files, "templates/card.html")

// maxName bounds what is searched: no name server takes longer names, and clients send at most 32 characters.
const maxName = 128 // bytes

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.card)
	mux.Handle("GET /style.css", webui.Style())
	mux.Handle("GET /card.js", webui.Asset(files, "static/card.js"))
	mux.HandleFunc("GET /qr.svg", s.qr)
	mux.HandleFunc("GET /v1/card", s.cardJSON)
	mux.HandleFunc("GET /v1/names/{name}", s.nameJSON)
	return webui.Headers(mux)
}

// nameResult is the outcome of a name search on the page.
type nameResult struct {
	Asked   string
	Account string // of the name's owner
	Err     string // why there is no answer
}

func (s *Server) card(w http.ResponseWriter, r *http.Request) {
	view := struct {
		Title    string
		URL      string
		Sections []Section
		Roles    []Role
		Name     *nameResult
	}{Title: "Join this Jami network", URL: s.URL(), Sections: s.net.Sections(), Roles: s.net.Roles(r.Context())}
	if name := strings.TrimSpace(r.FormValue("name")); name != "" {
		view.Name = s.search(r, name)
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, "card.html", view); err != nil {
		s.log.Error("page not rendered", logging.KeyErr, err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(b.Bytes())
}

func (s *Server) search(r *http.Request, name string) *nameResult {
	res := &nameResult{Asked: name}
	if len(name) > maxName {
		res.Err = "no name is that long"
		return res
	}
	account, err := s.net.LookupName(r.Context(), name)
	switch {
	case errors.Is(err, ErrNoSuchName):
		res.Err = "nobody has registered this name"
	case err != nil:
		res.Err = "the name server does not answer"
	}
	res.Account = account
	return res
}

func (s *Server) cardJSON(w http.ResponseWriter, r *http.Request) {
	httpapi.WriteJSON(w, http.StatusOK, struct {
		URL      string    `json:"url"`
		Sections []Section `json:"sections"`
		Roles    []Role    `json:"roles"`
	}{s.URL(), s.net.Sections(), s.net.Roles(r.Context())})
}

func (s *Server) nameJSON(w http.ResponseWriter, r *http.Request) {
	res := s.search(r, r.PathValue("name"))
	if res.Err != "" {
		httpapi.WriteProblem(w, httpapi.Problem{
			Type: "/docs/errors#name-not-found", Title: "Name not found", Status: http.StatusNotFound, Detail: res.Err,
		})
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Name    string `json:"name"`
		Account string `json:"account"`
	}{res.Asked, res.Account})
}
