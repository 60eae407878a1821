// Package doctor proves a deployment by using it as a peer would, one step after another, and says of the step that fails what is wrong
// and what to do about it.
//
// [TURN] does so with a TURN server: it resolves the name, connects, asks for its own address, allocates, makes a permission, and sends
// data through the relay both ways, from a second allocation and from outside.
package doctor

import (
	"context"
	"time"
)

// Problem is what a failed step means. The set is closed; programs may branch on it.
type Problem string

// The problems.
const (
	NoName         Problem = "no_name"         // the name does not resolve
	Refused        Problem = "refused"         // nobody listens there
	NoAnswer       Problem = "no_answer"       // packets get lost, mostly in a firewall
	TLSName        Problem = "tls_name"        // the certificate is for another name
	TLSTrust       Problem = "tls_trust"       // the certificate has expired or is of an authority unknown here
	TLSFailed      Problem = "tls_failed"      // no agreement on TLS, or no TLS there
	NotTURN        Problem = "not_turn"        // something else answers
	Credentials    Problem = "credentials"     // wrong user or password
	Forbidden      Problem = "forbidden"       // the server's policy
	Quota          Problem = "quota"           // too many allocations of this user or address
	Capacity       Problem = "capacity"        // the server has no port or descriptor left
	Unsupported    Problem = "unsupported"     // the server does not do this
	Elsewhere      Problem = "elsewhere"       // the server names another one
	RelayUnreached Problem = "relay_unreached" // relay ports are not reachable, or the policy refuses this peer
	Other          Problem = "other"
)

// Step is one thing that was tried.
type Step struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Millis  float64 `json:"ms"`
	Detail  string  `json:"detail,omitempty"` // what was found
	Problem Problem `json:"problem,omitempty"`
	Error   string  `json:"error,omitempty"`
	Hint    string  `json:"hint,omitempty"` // what to do
}

// Report is the outcome of a check. Steps after one that failed and that they rest on are not there.
type Report struct {
	Server    string `json:"server"`
	OK        bool   `json:"ok"`
	Reflexive string `json:"reflexive,omitempty"` // the address under which the server sees this host
	NAT       string `json:"nat,omitempty"`       // "none", or "translated" if that is not this host's own
	Relayed   string `json:"relayed,omitempty"`   // a relayed transport address
	Steps     []Step `json:"steps"`

	observe func(Step)
}

// step tries something and notes the outcome. It reports whether that was success.
func (r *Report) step(ctx context.Context, name string, try func(context.Context) (detail string, err error)) bool {
	began := time.Now()
	detail, err := try(ctx)
	s := Step{Name: name, OK: err == nil, Millis: float64(time.Since(began).Microseconds()) / 1000, Detail: detail}
	if err != nil {
		s.Detail, s.Error = "", err.Error()
		s.Problem = diagnose(err)
		s.Hint = hints[s.Problem]
		r.OK = false
	}
	r.Steps = append(r.Steps, s)
	if r.observe != nil {
		r.observe(s)
	}
	return s.OK
}
