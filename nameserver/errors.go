package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// errBusy says that a bounded queue of this server is full, or that a client
// is over its rate and waited as long as it may.
var errBusy = errors.New("nameserver: busy")

// errReserved says that the operator keeps the name back.
var errReserved = fmt.Errorf("%w: the name is reserved", policy.ErrRefused)

// An outcome is what an error means to clients: the status on the compatible
// routes, the problem type on our own, and the label in metrics. kind is one
// of a closed set; docs/errors.md has a heading for each.
type outcome struct {
	kind   string
	status int
	title  string
}

var (
	outcomeOK          = outcome{"ok", nameproto.StatusOK, ""}
	outcomeUnavailable = outcome{"unavailable", nameproto.StatusUnavailable, "The server cannot answer for now"}
	outcomeMalformed   = outcome{"malformed", nameproto.StatusMalformed, "The request is not well formed"}
)

// outcomes maps every error that handlers see, first match first. What is not
// here is unexpected, and answered as unavailable: never as a final "taken" or
// "not found", which clients would believe for ever.
var outcomes = []struct {
	err error
	outcome
}{
	{policy.ErrName, outcome{"bad_name", nameproto.StatusMalformed, "The name can never exist"}},
	{nameproto.ErrMalformed, outcomeMalformed},
	{ledger.ErrMalformed, outcomeMalformed},
	{nameproto.ErrSignature, outcome{"bad_signature", nameproto.StatusSignature, "The registration is not signed by the account"}},
	{ledger.ErrInvalidKey, outcome{"bad_signature", nameproto.StatusSignature, "The registration is not signed by the account"}},
	{ledger.ErrInvalidSignature, outcome{"bad_signature", nameproto.StatusSignature, "The registration is not signed by the account"}},
	{registry.ErrTaken, outcome{"taken", nameproto.StatusRefused, "The name is taken"}},
	{registry.ErrAddressTaken, outcome{"address_taken", nameproto.StatusRefused, "The account has a name already"}},
	{registry.ErrInvite, outcome{"invite", nameproto.StatusRefused, "The invite is not valid"}},
	{policy.ErrInvite, outcome{"invite", nameproto.StatusRefused, "An invite is needed"}},
	{policy.ErrRefused, outcome{"refused", nameproto.StatusRefused, "This server's policy does not allow it"}},
	{registry.ErrNotFound, outcome{"not_found", nameproto.StatusNotFound, "Nobody has it"}},
	{store.ErrNotFound, outcome{"not_found", nameproto.StatusNotFound, "Nobody has it"}},
	{errBusy, outcome{"busy", nameproto.StatusUnavailable, "The server is busy"}},
	{registry.ErrBusy, outcome{"busy", nameproto.StatusUnavailable, "The server is busy"}},
	{registry.ErrNotReady, outcomeUnavailable},
	{registry.ErrReadOnly, outcomeUnavailable},
	{context.DeadlineExceeded, outcome{"busy", nameproto.StatusUnavailable, "The server is busy"}},
}

func outcomeOf(err error) outcome {
	if err == nil {
		return outcomeOK
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.outcome
		}
	}
	return outcomeUnavailable
}

// final reports whether asking again cannot change the answer.
func (o outcome) final() bool { return o.status != http.StatusServiceUnavailable }

// retryAfter is what a 503 tells clients to wait. No client obeys it; those
// who write scripts may.
const retryAfter = 5 * time.Second

// reason is the text for the person at the other end: the outcome's title, and
// for what they can mend the detail.
func reason(o outcome, err error) string {
	if o.status == nameproto.StatusMalformed || o.kind == "refused" {
		return err.Error()
	}
	return o.title
}
