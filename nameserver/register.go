package nameserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/wait"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// registerName answers POST /name/{name} (docs/protocols/nameserver.md §5).
func (s *Server) registerName(w http.ResponseWriter, r *http.Request) {
	began := s.now()
	err := s.register(w, r)
	o := outcomeOf(err)
	s.metrics.registration(o, s.now().Sub(began))
	if err == nil {
		writeBody(w, nameproto.StatusOK, nameproto.AppendSuccess(nil))
		return
	}
	s.log.Debug("registration refused", "kind", o.kind, "err", err)
	if !o.final() {
		w.Header().Set("Retry-After", httpapi.RetryAfter(retryAfter))
	}
	writeBody(w, o.status, nameproto.AppendFailure(nil, reason(o, err)))
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Follow.URL != "" {
		return s.forward(w, r)
	}
	reg, err := s.readRegistration(w, r)
	if err != nil {
		return err
	}
	ctx, release, err := s.hold(r.Context())
	if err != nil {
		return err
	}
	defer release()
	err = s.allow(ctx, reg)
	if err == nil {
		err = s.takeToken(ctx, r, reg)
	}
	if errors.Is(err, errSettled) {
		return nil
	}
	if err != nil {
		return s.unlessSettled(ctx, reg, err)
	}
	return s.insist(ctx, func() error {
		_, err := s.writer.Register(ctx, reg)
		return err
	})
}

// readRegistration decodes what was asked for. A body over the limit is
// malformed, not 413, which clients would read as "taken".
func (s *Server) readRegistration(w http.ResponseWriter, r *http.Request) (reg ledger.Registration, err error) {
	name, ok := pathParam(r, "name")
	if !ok {
		return reg, fmt.Errorf("%w: path", nameproto.ErrMalformed)
	}
	pol := s.policy()
	key, err := pol.Names.Key(name)
	if err != nil {
		return reg, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, nameproto.MaxBody))
	if err != nil {
		return reg, fmt.Errorf("%w: body: %v", nameproto.ErrMalformed, err)
	}
	req, err := nameproto.ParseRegistration(body)
	if err != nil {
		return reg, err
	}
	reg = ledger.Registration{
		Name: name, Key: key, Skeleton: pol.Skeleton(key), Address: ledger.Address(req.Addr),
		PublicKey: req.PublicKey, Signature: req.Signature,
	}
	if owner, ok := req.OwnerBytes(); ok {
		reg.Owner = (*ledger.Address)(&owner)
	}
	if token := chi.URLParam(r, "token"); token != "" {
		reg.Invite = inviteHash(token)
	}
	return reg, nil
}

// inviteHash is the form in which invites are stored and compared.
func inviteHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// hold bounds how long and how many registrations wait for better times. A
// client that fails its first registration may be unable to try again until it
// restarts (docs/protocols/nameserver.md §5), so a late success is worth much
// more than an early error, and stock clients have no time limit.
func (s *Server) hold(ctx context.Context) (context.Context, func(), error) {
	if s.held.Add(1) > int64(s.cfg.Limits.Held) {
		s.held.Add(-1)
		return nil, nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Limits.Hold)
	return ctx, func() { cancel(); s.held.Add(-1) }, nil
}

// errSettled says that the registration asked for holds already.
var errSettled = errors.New("nameserver: registered already")

// unlessSettled returns err, which keeps a registration from being tried,
// unless the outcome is known from what is registered: a repeat of one that
// holds succeeds whatever the policy has become and however many there were,
// and one that cannot win hears so.
func (s *Server) unlessSettled(ctx context.Context, reg ledger.Registration, err error) error {
	switch known := s.settled(ctx, reg); {
	case errors.Is(known, errSettled):
		return nil
	case known != nil:
		return known
	}
	return err
}

// settled returns errSettled for a registration that holds, the reason why one
// cannot win, and nil for one that the ledger must decide. It costs two
// lookups, which the ledger makes by itself for those that get that far.
func (s *Server) settled(ctx context.Context, reg ledger.Registration) error {
	rec, err := s.reader.LookupName(ctx, reg.Key)
	switch {
	case err == nil && rec.Address != reg.Address:
		return registry.ErrTaken
	case err == nil && rec.Name == reg.Name && string(rec.Signature) == string(reg.Signature):
		return errSettled // PKCS #1 v1.5 is deterministic: a genuine repeat has the same bytes
	case err == nil:
		return nil
	}
	if _, err = s.reader.LookupAddress(ctx, reg.Address); err == nil {
		return registry.ErrAddressTaken
	}
	return nil // not known, or not now
}

// allow asks the policy and the reservations.
func (s *Server) allow(ctx context.Context, reg ledger.Registration) error {
	if err := s.policy().Allow(reg.Key, nameproto.Address(reg.Address), reg.Invite != nil); err != nil {
		return err
	}
	if s.reservations == nil {
		return nil // a mirror; its writer asks
	}
	return s.insist(ctx, func() error {
		_, err := s.reservations.Reserved(ctx, reg.Key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			return errReserved
		}
		return err
	})
}

// takeToken waits for the client's network to be within its rate. What is
// settled does not wait.
func (s *Server) takeToken(ctx context.Context, r *http.Request, reg ledger.Registration) error {
	ip := httpapi.ClientIP(r, s.cfg.TrustedProxies)
	for {
		delay := s.limiter.Take(s.now(), ip)
		if delay == 0 {
			return nil
		}
		if err := s.settled(ctx, reg); err != nil {
			return err
		}
		s.metrics.limited.Inc()
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < delay {
			return fmt.Errorf("%w: over the rate of its network", errBusy)
		}
		if err := wait.For(ctx, delay); err != nil {
			return err
		}
	}
}

// insist repeats try while it fails for reasons that may pass, until ctx ends.
func (s *Server) insist(ctx context.Context, try func() error) error {
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := try()
		if outcomeOf(err).final() || errors.Is(err, registry.ErrReadOnly) {
			return err
		}
		if wait.For(ctx, delay) != nil {
			return err
		}
	}
}
