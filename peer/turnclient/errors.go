package turnclient

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/pion/stun/v3"
)

var (
	// ErrTimeout: the server did not answer in time. For UDP the error may also match what ICMP told, such as syscall.ECONNREFUSED.
	ErrTimeout = errors.New("turnclient: no answer")
	// ErrIntegrity: answers came, and none was made by somebody who knows the password. Do not send it again to where this came from.
	ErrIntegrity = errors.New("turnclient: answer without valid integrity")
	// ErrMalformed: the server broke the protocol.
	ErrMalformed = errors.New("turnclient: malformed answer")
	// ErrInUse: the client has an allocation already; dial another client.
	ErrInUse = errors.New("turnclient: connection has an allocation")
	// ErrNoPermission: create a permission for the peer first; there was none, or the server did not renew it.
	ErrNoPermission = errors.New("turnclient: no permission for this peer")
	// ErrTooMany: a bound of this package is reached.
	ErrTooMany = errors.New("turnclient: too many")
)

// Error is an error answer of the server. Use errors.As to get at it.
type Error struct {
	Method    stun.Method
	Code      int             // 300–699; the constants stun.Code… name them
	Reason    string          // the server's words, without what could disturb a terminal; at most 128 bytes
	Unknown   []stun.AttrType // of a 420: what the server did not understand
	Alternate netip.AddrPort  // of a 300: the server to ask instead (RFC 8489 §10), which the caller may dial; once, or it may go in circles
}

func (e *Error) Error() string {
	s := fmt.Sprintf("turnclient: %v: %d %s", e.Method, e.Code, e.Reason)
	if e.Alternate.IsValid() {
		s += fmt.Sprintf(" (ask %v)", e.Alternate)
	}
	return s
}

// Class is 3 for try another server, 4 for the request's fault, 5 for the server's, 6 for a global failure.
func (e *Error) Class() int { return e.Code / 100 }

// hasCode reports whether err is an error answer with one of these codes.
func hasCode(err error, codes ...stun.ErrorCode) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.Code == int(c) {
			return true
		}
	}
	return false
}

const maxReason = 128 // bytes of a reason phrase kept

// errorOf reads an error answer (RFC 8489 §14.8).
func errorOf(m *stun.Message) *Error {
	e := &Error{Method: m.Type.Method, Reason: "no error code"}
	var code stun.ErrorCodeAttribute
	if code.GetFrom(m) == nil {
		e.Code, e.Reason = int(code.Code), printable(code.Reason)
	}
	var unknown stun.UnknownAttributes
	if unknown.GetFrom(m) == nil {
		e.Unknown = unknown
	}
	var alternate stun.AlternateServer
	if alternate.GetFrom(m) == nil {
		ip, _ := netip.AddrFromSlice(alternate.IP)
		e.Alternate = netip.AddrPortFrom(ip.Unmap(), uint16(alternate.Port))
	}
	return e
}

func printable(reason []byte) string {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(reason))
}
