package nameserver

import (
	"bytes"
	"embed"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/webui"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
)

//go:embed web
var web embed.FS

var pageTemplates = webui.Parse(web, "web/pages.html")

// pageRoutes are for people: look a name up and see its proof checked in the
// browser, and look at the ledger. They load nothing from elsewhere and work
// without scripts, except for the check of the proof.
func (s *Server) pageRoutes(r chi.Router) {
	r.Use(webui.Headers)
	r.Get("/", s.searchPage)
	r.Get("/log", s.logPage)
	r.Method(http.MethodGet, "/style.css", webui.Style())
	for _, name := range []string{"page.js", "proof.js", "plaincrypto.js"} {
		r.Method(http.MethodGet, "/"+name, webui.Asset(web, "web/"+name))
	}
}

// page is what all pages show.
type page struct {
	Title  string
	Page   string // which one of the navigation
	Status Status
	VKey   string // of the log, in force
}

func (s *Server) page(title, name string) page {
	p := page{Title: title, Page: name, Status: s.status()}
	if len(p.Status.VKeys) > 0 {
		p.VKey = p.Status.VKeys[0]
	}
	return p
}

type searchData struct {
	page
	Query   string
	Key     string           // lookup form; empty when there is nothing to prove
	Record  *registry.Record // nil when not found
	Message string           // why there is no record
}

// maxQuery is the most bytes of a search; longer ones are cut, and are no
// names.
const maxQuery = 256

func (s *Server) searchPage(w http.ResponseWriter, r *http.Request) {
	d := searchData{page: s.page("Names of "+s.cfg.Ledger.Origin, "search")}
	d.Query = strings.TrimSpace(r.URL.Query().Get("name"))
	d.Query = d.Query[:min(len(d.Query), maxQuery)]
	status := http.StatusOK
	if d.Query != "" {
		d.Title = d.Query + " – " + d.Status.Origin
		status = s.search(r, &d)
	}
	render(w, status, "search", d)
}

// search fills in what is known of the query, an account id or a name.
func (s *Server) search(r *http.Request, d *searchData) int {
	key, err := s.policy().Names.Key(d.Query)
	if addr, aerr := nameproto.ParseAddress(d.Query); aerr == nil {
		var rec registry.Record
		if rec, err = s.reader.LookupAddress(r.Context(), [20]byte(addr)); err == nil {
			d.Record, d.Key = &rec, rec.Key
		}
	} else if err == nil {
		var rec registry.Record
		if rec, err = s.reader.LookupName(r.Context(), key); err == nil {
			d.Record = &rec
		}
		if err == nil || errors.Is(err, registry.ErrNotFound) {
			d.Key = key
		}
	}
	o := outcomeOf(err)
	if err != nil {
		d.Message = o.title + "."
	}
	return o.status
}

// Lines are those of the note.
func (c Checkpoint) Lines() []string { return strings.Split(strings.TrimRight(c.Note, "\n"), "\n") }

type witnessRow struct {
	Name   string
	Signed bool
}

type logData struct {
	page
	Checkpoint *Checkpoint // nil for now
	Witnesses  []witnessRow
	Browse     bool
	Entries    Entries
}

func (s *Server) logPage(w http.ResponseWriter, r *http.Request) {
	d := logData{page: s.page("Ledger of "+s.cfg.Ledger.Origin, "log"), Browse: s.mayBrowse(r)}
	if !d.Browse && s.cfg.Ledger.Visibility == VisibilityToken {
		w.Header().Set("WWW-Authenticate", `Basic realm="ledger", charset="UTF-8"`)
		render(w, http.StatusUnauthorized, "log", d)
		return
	}
	if c, err := s.checkpoint(r.Context()); err == nil {
		d.Checkpoint = &c
	}
	for _, name := range d.Status.Witnesses {
		d.Witnesses = append(d.Witnesses, witnessRow{name, d.Checkpoint != nil && slices.Contains(d.Checkpoint.Signatures, name)})
	}
	if d.Browse {
		end, err := queryInt(r, "cursor", d.Status.Size)
		if err != nil {
			end = d.Status.Size
		}
		if d.Entries, err = s.entries(r.Context(), min(end, d.Status.Size), defaultPage); err != nil {
			render(w, outcomeOf(err).status, "log", d)
			return
		}
	}
	render(w, http.StatusOK, "log", d)
}

func render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError) // a bug of ours; tests render every page
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
