package nameserver

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
)

var errIndex = fmt.Errorf("%w: want an index of the log", nameproto.ErrMalformed)

// LogEntry is an entry of the log as /v1 shows it. Which fields are set
// depends on the kind.
type LogEntry struct {
	Index   int64     `json:"index"`
	Kind    string    `json:"kind"` // register, map_root, tombstone, key, policy or import
	Time    time.Time `json:"time"`
	Name    string    `json:"name,omitempty"`    // register, tombstone
	Address string    `json:"address,omitempty"` // register
	Reason  string    `json:"reason,omitempty"`  // tombstone
	Size    uint64    `json:"size,omitempty"`    // map_root, import
	Count   uint64    `json:"count,omitempty"`   // map_root
	Root    string    `json:"root,omitempty"`    // map_root, import; hex
	VKey    string    `json:"vkey,omitempty"`    // key
	Hash    string    `json:"hash,omitempty"`    // policy; hex
	Origin  string    `json:"origin,omitempty"`  // import
}

func logEntryOf(index int64, e ledger.Entry) LogEntry {
	out := LogEntry{Index: index, Kind: e.Kind().String(), Time: e.Time()}
	switch e := e.(type) {
	case *ledger.Register:
		out.Name, out.Address = e.Name, e.Address.String()
	case *ledger.MapRoot:
		out.Size, out.Count, out.Root = e.Size, e.Count, hex.EncodeToString(e.Root[:])
	case *ledger.Tombstone:
		out.Name, out.Reason = e.Key, e.Reason
	case *ledger.Key:
		out.VKey = e.VKey
	case *ledger.Policy:
		out.Hash = hex.EncodeToString(e.Hash[:])
	case *ledger.Import:
		out.Origin, out.Size, out.Root = e.Origin, e.Size, hex.EncodeToString(e.Root[:])
	}
	return out
}

// Entries is a page of the log, the latest first.
type Entries struct {
	Entries []LogEntry `json:"entries"`
	// NextCursor asks for the page after this one; empty at the log's begin.
	NextCursor string `json:"next_cursor,omitempty"`
}

const (
	defaultPage = 50  // entries
	maxPage     = 256 // entries; a bundle's worth
)

// v1Entries answers GET /v1/entries?cursor=…&limit=….
func (s *Server) v1Entries(w http.ResponseWriter, r *http.Request) {
	if !s.browseAllowed(w, r) {
		return
	}
	limit, err := queryInt(r, "limit", defaultPage)
	if err != nil || limit < 1 || limit > maxPage {
		s.problem(w, fmt.Errorf("%w: limit: want 1–%d", nameproto.ErrMalformed, maxPage))
		return
	}
	size := s.reader.Status().Size
	end, err := queryInt(r, "cursor", size)
	if err != nil {
		s.problem(w, errIndex)
		return
	}
	page, err := s.entries(r.Context(), min(end, size), limit)
	if err != nil {
		s.problem(w, err)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, page)
}

// entries returns up to limit entries below end, the latest first.
func (s *Server) entries(ctx context.Context, end, limit int64) (Entries, error) {
	page := Entries{Entries: []LogEntry{}}
	first := max(0, end-limit)
	for i := end - 1; i >= first; i-- {
		e, _, err := s.reader.Entry(ctx, i)
		if err != nil {
			return page, err
		}
		page.Entries = append(page.Entries, logEntryOf(i, e))
	}
	if first > 0 {
		page.NextCursor = strconv.FormatInt(first, 10)
	}
	return page, nil
}

func queryInt(r *http.Request, key string, unset int64) (int64, error) {
	v := r.URL.Query().Get(key)
	if v == "" {
		return unset, nil
	}
	return indexParam(v)
}

// v1Entry answers GET /v1/entries/{index}.
func (s *Server) v1Entry(w http.ResponseWriter, r *http.Request) {
	if !s.browseAllowed(w, r) {
		return
	}
	index, err := indexParam(chi.URLParam(r, "index"))
	if err != nil {
		s.problem(w, err)
		return
	}
	if index >= s.reader.Status().Size {
		s.problem(w, registry.ErrNotFound)
		return
	}
	e, _, err := s.reader.Entry(r.Context(), index)
	if err != nil {
		s.problem(w, err)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, logEntryOf(index, e))
}

// browseAllowed answers those who may not list entries, and reports whether r
// may.
func (s *Server) browseAllowed(w http.ResponseWriter, r *http.Request) bool {
	if s.mayBrowse(r) {
		return true
	}
	status := http.StatusForbidden
	if s.cfg.Ledger.Visibility == VisibilityToken {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Bearer realm="ledger"`)
	}
	httpapi.WriteProblem(w, httpapi.Problem{
		Type: problemType("not_public"), Title: "The ledger is not open to you", Status: status,
	})
	return false
}

// Checkpoint is the published checkpoint as /v1 shows it.
type Checkpoint struct {
	Origin     string   `json:"origin"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"`       // base64, as in the note
	Note       string   `json:"note"`       // the signed note itself
	Signatures []string `json:"signatures"` // names of the keys that signed, not checked here
}

// v1Checkpoint answers GET /v1/checkpoint.
func (s *Server) v1Checkpoint(w http.ResponseWriter, r *http.Request) {
	c, err := s.checkpoint(r.Context())
	if err != nil {
		s.problem(w, err)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, c)
}

func (s *Server) checkpoint(ctx context.Context) (Checkpoint, error) {
	note, err := s.reader.Checkpoint(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	text, signatures, _ := strings.Cut(string(note), "\n\n")
	cp, err := ledger.ParseCheckpoint(text + "\n")
	if err != nil {
		return Checkpoint{}, err
	}
	out := Checkpoint{
		Origin: cp.Origin, Size: cp.Size, Root: base64.StdEncoding.EncodeToString(cp.Root[:]),
		Note: string(note), Signatures: []string{},
	}
	for line := range strings.Lines(signatures) {
		if fields := strings.Fields(line); len(fields) == 3 {
			out.Signatures = append(out.Signatures, fields[1])
		}
	}
	return out, nil
}
