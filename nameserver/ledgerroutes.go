package nameserver

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
)

// ledgerRoutes serve the log to those who verify it. The checkpoint, the keys,
// the rules and proofs say nothing about names one cannot spell and are open
// to all; tiles and bundles are the whole directory.
func (s *Server) ledgerRoutes(r chi.Router) {
	log := http.StripPrefix("/ledger", registry.NewHandler(s.reader))
	r.Method(http.MethodGet, "/checkpoint", s.noting(log))
	r.Method(http.MethodGet, "/vkeys", log)
	r.Method(http.MethodGet, "/tile/*", s.guarded(log))
	r.Get("/policy", s.ledgerPolicy)
	r.Get("/proof/{name}", s.nameProof)
	r.Get("/proof/addr/{addr}", s.addressProof)
}

// guarded lets only those through who may mirror.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.mayMirror(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="ledger"`)
			writeBody(w, http.StatusUnauthorized, nameproto.AppendError(nil, "the ledger is open to token holders only"))
			return
		}
		next.ServeHTTP(w, r)
	})
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
// there is no subject: in its text form, or as JSON for who asks for that.
func (s *Server) writeProof(w http.ResponseWriter, r *http.Request, subject ledger.Subject, err error) {
	var proof ledger.Proof
	if err == nil {
		proof, err = s.reader.Prove(r.Context(), subject)
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeBody(w, http.StatusOK, proof.AppendJSON(nil))
		return
	}
	text, err := proof.MarshalText()
	if err != nil {
		s.writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(text)
}
