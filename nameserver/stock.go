package nameserver

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
)

// stockRoutes are the routes of stock clients (docs/protocols/nameserver.md
// §3–§5). They are mounted at the root and again under every invite.
func (s *Server) stockRoutes(r chi.Router) {
	r.Get("/name/{name}", s.lookupName)
	r.Post("/name/{name}", s.registerName)
	r.Get("/addr/{addr}", s.lookupAddress)
	r.Get("/name/{name}/{part:owner|publickey|signature}", s.lookupPart)
}

// pathParam returns a segment of the request's path, percent-decoded once.
func pathParam(r *http.Request, name string) (string, bool) {
	v := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return v, true // net/http has decoded the path already
	}
	v, err := url.PathUnescape(v)
	return v, err == nil
}

// nameKey returns the lookup key of the name in the path.
func (s *Server) nameKey(r *http.Request) (string, error) {
	name, ok := pathParam(r, "name")
	if !ok {
		return "", nameproto.ErrMalformed
	}
	return s.policy().Names.Key(name)
}

func (s *Server) record(r *http.Request) (registry.Record, error) {
	key, err := s.nameKey(r)
	if err != nil {
		return registry.Record{}, err
	}
	return s.reader.LookupName(r.Context(), key)
}

// lookupName answers GET /name/{name}.
func (s *Server) lookupName(w http.ResponseWriter, r *http.Request) {
	rec, err := s.record(r)
	s.metrics.lookup("name", err)
	if wantsProof(r) {
		s.lookupWithProof(w, r, rec, err)
		return
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = nameproto.AppendEntry((*buf)[:0], entryOf(rec))
	writeBody(w, nameproto.StatusOK, *buf)
}

func entryOf(rec registry.Record) nameproto.Entry {
	return nameproto.Entry{
		Name: rec.Name, Addr: nameproto.Address(rec.Address), PublicKey: rec.PublicKey, Signature: rec.Signature,
	}
}

// wantsProof reports whether a client asked for what stock clients never ask
// for; proofs cost 2 kB.
func wantsProof(r *http.Request) bool {
	return r.URL.RawQuery != "" && r.URL.Query().Get("proof") == "1"
}

// lookupWithProof answers as lookupName does, found or not, with the ledger's
// proof as one more member.
func (s *Server) lookupWithProof(w http.ResponseWriter, r *http.Request, rec registry.Record, err error) {
	o := outcomeOf(err)
	if err != nil && o.status != nameproto.StatusNotFound {
		s.writeError(w, err)
		return
	}
	key, _ := s.nameKey(r) // looked up already
	proof, perr := s.reader.Prove(r.Context(), ledger.Subject{Name: key})
	if perr != nil {
		s.writeError(w, perr)
		return
	}
	proof.Evidence = nil // the answer has the same as publickey and signature
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = (*buf)[:0]
	if err == nil {
		*buf = nameproto.AppendEntry(*buf, entryOf(rec))
	} else {
		*buf = nameproto.AppendError(*buf, o.title)
	}
	*buf = append((*buf)[:len(*buf)-1], `,"proof":`...) // one more member before the closing brace
	*buf = append(proof.AppendJSON(*buf), '}')
	writeBody(w, o.status, *buf)
}

// lookupPart answers GET /name/{name}/owner, …/publickey and …/signature with
// an object of that one member.
func (s *Server) lookupPart(w http.ResponseWriter, r *http.Request) {
	rec, err := s.record(r)
	s.metrics.lookup("part", err)
	if err != nil {
		s.writeError(w, err)
		return
	}
	part := chi.URLParam(r, "part")
	value := ""
	switch {
	case part == "publickey":
		value = base64.StdEncoding.EncodeToString(rec.PublicKey)
	case part == "signature":
		value = base64.StdEncoding.EncodeToString(rec.Signature)
	case rec.Owner != nil:
		value = rec.Owner.String()
	}
	writeBody(w, nameproto.StatusOK, []byte(`{"`+part+`":"`+value+`"}`))
}

// lookupAddress answers GET /addr/{addr}.
func (s *Server) lookupAddress(w http.ResponseWriter, r *http.Request) {
	rec, err := s.addressRecord(r)
	s.metrics.lookup("addr", err)
	if err != nil {
		s.writeError(w, err)
		return
	}
	writeBody(w, nameproto.StatusOK, nameproto.AppendName(nil, rec.Name))
}

func (s *Server) addressRecord(r *http.Request) (registry.Record, error) {
	text, _ := pathParam(r, "addr")
	addr, err := nameproto.ParseAddress(text)
	if err != nil {
		return registry.Record{}, err
	}
	return s.reader.LookupAddress(r.Context(), ledger.Address(addr))
}

// writeError answers a lookup that failed.
func (s *Server) writeError(w http.ResponseWriter, err error) {
	o := outcomeOf(err)
	if !o.final() {
		w.Header().Set("Retry-After", httpapi.RetryAfter(retryAfter))
	}
	writeBody(w, o.status, nameproto.AppendError(nil, reason(o, err)))
}

// writeBody sends a JSON body with its length, so that the answer is one
// packet and the connection can be closed or kept.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; there is nobody to tell
}

var jsonType = []string{"application/json"}

// buffers holds space for lookup answers, about 2 kB each, or 4 to 6 with a proof.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}
