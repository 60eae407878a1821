package nameserver

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
)

//go:embed openapi.yaml
var openapi []byte

// ownRoutes are our API. Fields are added to its answers, never changed.
func (s *Server) ownRoutes(r chi.Router) {
	r.Get("/openapi.yaml", s.v1OpenAPI)
	r.Get("/status", s.v1Status)
	r.Get("/names/{name}", s.v1Name)
	r.Get("/names/{name}/proof", s.v1NameProof)
	r.Get("/names/{name}/availability", s.v1Availability)
	r.Get("/addresses/{addr}", s.v1Address)
	r.Get("/addresses/{addr}/proof", s.v1AddressProof)
	r.Get("/checkpoint", s.v1Checkpoint)
	r.Get("/entries", s.v1Entries)
	r.Get("/entries/{index}", s.v1Entry)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		httpapi.WriteProblem(w, httpapi.Problem{Type: problemType("no_route"), Title: "No such route", Status: http.StatusNotFound})
	})
}

// problemType is the stable type of a problem, a heading in docs/errors.md.
func problemType(kind string) string {
	return "/docs/errors#nameserver-" + strings.ReplaceAll(kind, "_", "-")
}

func (s *Server) problem(w http.ResponseWriter, err error) {
	o := outcomeOf(err)
	p := httpapi.Problem{Type: problemType(o.kind), Title: o.title, Status: o.status}
	if o.status == nameproto.StatusMalformed {
		p.Detail = err.Error()
	}
	if !o.final() {
		p.RetryAfter = retryAfter
	}
	httpapi.WriteProblem(w, p)
}

func (s *Server) v1OpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi)
}

// Registration is a registered name as /v1 shows it.
type Registration struct {
	Name         string    `json:"name"`
	Key          string    `json:"key"`             // lookup form
	Address      string    `json:"address"`         // 40 hex digits
	Owner        string    `json:"owner,omitempty"` // 40 hex digits
	Index        int64     `json:"index"`           // in the log
	RegisteredAt time.Time `json:"registered_at"`
	PublicKey    string    `json:"public_key"` // base64 of the registered text
	Signature    string    `json:"signature"`  // base64
}

func registrationOf(rec registry.Record) Registration {
	out := Registration{
		Name: rec.Name, Key: rec.Key, Address: rec.Address.String(), Index: rec.Index, RegisteredAt: rec.Time.UTC(),
		PublicKey: base64.StdEncoding.EncodeToString(rec.PublicKey),
		Signature: base64.StdEncoding.EncodeToString(rec.Signature),
	}
	if rec.Owner != nil {
		out.Owner = rec.Owner.String()
	}
	return out
}

func (s *Server) v1Name(w http.ResponseWriter, r *http.Request) { s.answerRecord(w, r, s.record) }
func (s *Server) v1Address(w http.ResponseWriter, r *http.Request) {
	s.answerRecord(w, r, s.addressRecord)
}

func (s *Server) answerRecord(w http.ResponseWriter, r *http.Request, find func(*http.Request) (registry.Record, error)) {
	rec, err := find(r)
	s.metrics.lookup("v1", err)
	if err != nil {
		s.problem(w, err)
		return
	}
	httpapi.WriteJSON(w, http.StatusOK, registrationOf(rec))
}

func (s *Server) v1NameProof(w http.ResponseWriter, r *http.Request) {
	key, err := s.nameKey(r)
	s.answerProof(w, r, ledger.Subject{Name: key}, err)
}

func (s *Server) v1AddressProof(w http.ResponseWriter, r *http.Request) {
	subject, err := addressSubject(r)
	s.answerProof(w, r, subject, err)
}

func (s *Server) answerProof(w http.ResponseWriter, r *http.Request, subject ledger.Subject, err error) {
	if err != nil {
		s.problem(w, err)
		return
	}
	proof, err := s.reader.Prove(r.Context(), subject)
	if err != nil {
		s.problem(w, err)
		return
	}
	writeBody(w, http.StatusOK, proof.AppendJSON(nil))
}

// Availability says whether a name could be registered now.
type Availability struct {
	Key       string `json:"key,omitempty"` // lookup form; empty for an impossible name
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"` // bad_name, taken, refused or invite
	Detail    string `json:"detail,omitempty"`
}

func (s *Server) v1Availability(w http.ResponseWriter, r *http.Request) {
	key, err := s.nameKey(r)
	if err == nil {
		err = s.available(r, key)
	}
	o := outcomeOf(err)
	if !o.final() {
		s.problem(w, err)
		return
	}
	a := Availability{Key: key, Available: err == nil}
	if err != nil {
		a.Reason, a.Detail = o.kind, reason(o, err)
	}
	httpapi.WriteJSON(w, http.StatusOK, a)
}

// available tells why a name could not be registered, as far as that does not
// depend on the account.
func (s *Server) available(r *http.Request, key string) error {
	_, err := s.reader.LookupName(r.Context(), key)
	if err == nil {
		return registry.ErrTaken
	}
	if !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	pol := s.policy()
	if pol.Mode == policy.ModeAllowList {
		return nil // who is on the list is told nobody
	}
	return pol.Allow(key, nameproto.Address{}, pol.Mode == policy.ModeInvite)
}

// Status is what GET /v1/status tells of the server.
type Status struct {
	Origin       string     `json:"origin"`
	VKeys        []string   `json:"vkeys"` // the one in force first
	Ready        bool       `json:"ready"`
	ReadOnly     bool       `json:"read_only"`
	Mirror       bool       `json:"mirror"`
	Size         int64      `json:"size"`  // entries of the published log
	Names        int64      `json:"names"` // registered
	CheckpointAt time.Time  `json:"checkpoint_at"`
	Registration string     `json:"registration"` // open, invite, allow-list or closed
	Visibility   Visibility `json:"visibility"`
	NameRule     NameRule   `json:"name_rule"`
	Witnesses    []string   `json:"witnesses"` // names of the witnesses asked
	Followers    []Follower `json:"followers"` // mirrors that told their name within the last minute
}

// NameRule is which names may exist.
type NameRule struct {
	Unicode   bool `json:"unicode"`
	MinLength int  `json:"min_length"`
	MaxLength int  `json:"max_length"`
}

func (s *Server) status() Status {
	st, pol := s.reader.Status(), s.policy()
	out := Status{
		Origin: st.Origin, VKeys: s.reader.VKeys(), Ready: st.Ready, ReadOnly: st.ReadOnly, Mirror: s.cfg.Follow.URL != "",
		Size: st.Size, Names: st.Names, CheckpointAt: st.CheckpointAt.UTC(), Registration: string(pol.Mode),
		Visibility: s.cfg.Ledger.Visibility, NameRule: NameRule(pol.Names), Witnesses: []string{},
		Followers: s.followers.list(s.now()),
	}
	for _, w := range s.cfg.Ledger.Witnesses {
		if v, err := ledger.ParseWitness(w.VKey); err == nil {
			out.Witnesses = append(out.Witnesses, v.Name())
		}
	}
	return out
}

func (s *Server) v1Status(w http.ResponseWriter, _ *http.Request) {
	httpapi.WriteJSON(w, http.StatusOK, s.status())
}

// indexParam reads a number from the path.
func indexParam(text string) (int64, error) {
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil || i < 0 {
		return 0, errIndex
	}
	return i, nil
}
