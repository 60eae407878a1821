package nameserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
)

// ledgerRoutes serve the log to those who verify it. The checkpoint, the keys,
// the rules and proofs say nothing about names one cannot spell and are open
// to all; tiles and bundles are the whole directory.
func (s *Server) ledgerRoutes(r chi.Router) {
	r.Get("/checkpoint", s.ledgerCheckpoint)
	r.Get("/vkeys", s.ledgerVKeys)
	r.Get("/tile/*", s.ledgerTile)
	r.Get("/policy", s.ledgerPolicy)
	r.Get("/proof/{name}", s.nameProof)
	r.Get("/proof/addr/{addr}", s.addressProof)
}

// longPoll is how long a request for a checkpoint waits for a larger log.
const longPoll = 25 * time.Second

// ledgerCheckpoint answers GET /ledger/checkpoint[?after=N]. With after it
// waits until the log is larger than N, or gives what there is.
func (s *Server) ledgerCheckpoint(w http.ResponseWriter, r *http.Request) {
	var note []byte
	var err error
	if text := r.URL.Query().Get("after"); text != "" {
		after, perr := indexParam(text)
		if perr != nil {
			s.writeError(w, perr)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), longPoll)
		defer cancel()
		note, err = s.reader.WaitCheckpoint(ctx, after)
		if ctx.Err() != nil {
			err = nil
			note = nil
		}
	}
	if err == nil && note == nil {
		note, err = s.reader.Checkpoint(r.Context())
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	writeText(w, note)
}

func writeText(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text)
}

func (s *Server) ledgerVKeys(w http.ResponseWriter, _ *http.Request) {
	writeText(w, []byte(strings.Join(s.reader.VKeys(), "\n")+"\n"))
}

// ledgerTile answers GET /ledger/tile/… for those who may mirror. Full tiles
// never change.
func (s *Server) ledgerTile(w http.ResponseWriter, r *http.Request) {
	if !s.mayMirror(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ledger"`)
		writeBody(w, http.StatusUnauthorized, nameproto.AppendError(nil, "the ledger is open to token holders only"))
		return
	}
	id, err := ledger.ParseTilePath("tile/" + chi.URLParam(r, "*"))
	var data []byte
	if err == nil {
		data, err = s.reader.Resource(r.Context(), id)
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}

// ledgerPolicy answers GET /ledger/policy with the rules text whose hash the
// log records.
func (s *Server) ledgerPolicy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprint(w, s.policy().Rules())
}

func (s *Server) nameProof(w http.ResponseWriter, r *http.Request) {
	key, err := s.nameKey(r)
	s.writeProof(w, r, ledger.Subject{Name: key}, err)
}

func (s *Server) addressProof(w http.ResponseWriter, r *http.Request) {
	subject, err := addressSubject(r)
	s.writeProof(w, r, subject, err)
}

func addressSubject(r *http.Request) (ledger.Subject, error) {
	text, _ := pathParam(r, "addr")
	a, err := nameproto.ParseAddress(text)
	return ledger.Subject{Address: (*ledger.Address)(&a)}, err
}

// writeProof answers with the proof about the subject, unless err says that
// there is no subject.
func (s *Server) writeProof(w http.ResponseWriter, r *http.Request, subject ledger.Subject, err error) {
	var proof ledger.Proof
	if err == nil {
		proof, err = s.reader.Prove(r.Context(), subject)
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, proofOf(proof))
}
