package provider

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Verdict says what becomes of the message.
type Verdict uint8

// Verdicts.
const (
	Delivered   Verdict = iota // accepted by the provider
	Retry                      // not now; Outcome.After and Scope say when and what must wait
	DropMessage                // never; the message is at fault
	DropToken                  // never again for this token
	Refused                    // our credentials are at fault: the host must pause, a person must act
)

var verdictNames = [...]string{"delivered", "retry", "drop_message", "drop_token", "refused"}

// String returns the verdict's name in logs.
func (v Verdict) String() string { return verdictNames[min(int(v), len(verdictNames)-1)] }

// Scope says what a Retry must wait for.
type Scope uint8

// Scopes.
const (
	ScopeMessage Scope = iota // this message only; counts as a failure of the host
	ScopeToken                // everything for this token: the device's rate
	ScopeHost                 // everything for this host: the sender's rate
)

// Reason is why, from a closed set, fit for a metric label.
type Reason string

// Reasons. Vendors' own words are mapped onto these.
const (
	ReasonOK           Reason = "ok"
	ReasonNetwork      Reason = "network"      // no answer: dial, TLS, reset, GOAWAY
	ReasonTimeout      Reason = "timeout"      // no answer in time
	ReasonServer       Reason = "server"       // 5xx
	ReasonRate         Reason = "rate"         // 429
	ReasonUnregistered Reason = "unregistered" // token gone
	ReasonBadToken     Reason = "bad_token"    // token never was one
	ReasonMismatch     Reason = "mismatch"     // token of another app or project
	ReasonPayload      Reason = "payload"      // body not acceptable
	ReasonTooLarge     Reason = "too_large"    // body too large
	ReasonAuth         Reason = "auth"         // our credential refused
	ReasonRedirect     Reason = "redirect"     // 3xx, not followed
	ReasonForbidden    Reason = "forbidden"    // target address against the rules for outgoing connections
	ReasonStorage      Reason = "storage"      // 507: nobody subscribed yet
	ReasonUnexpected   Reason = "unexpected"   // any other answer
)

// Outcome is the result of one Send.
type Outcome struct {
	Verdict Verdict
	Reason  Reason
	Scope   Scope
	// After is the least time to wait before a retry, as the provider or its documents ask. Zero leaves it to
	// the dispatcher's back-off.
	After time.Duration
	// DeadSince is, for DropToken, when the provider saw the token die (APNs 410), else zero.
	DeadSince time.Time
	// Status is the HTTP status, 0 if none came.
	Status int
}

// Accepted is the outcome of success.
func Accepted(status int) Outcome {
	return Outcome{Verdict: Delivered, Reason: ReasonOK, Status: status}
}

// maxRetryAfter bounds what a provider may ask: longer would outlive every hint.
const maxRetryAfter = 2 * time.Hour

// RetryAfter reads the Retry-After header, in seconds or as a date (RFC 9110 §10.2.3); 0 if there is none or it
// is malformed.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
