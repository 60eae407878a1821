package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/jirani/jirani/peer/turnclient"
	"github.com/pion/dtls/v3"
	"github.com/pion/stun/v3"
)

// hints say what to do, to an operator.
var hints = map[Problem]string{
	NoName:         "the name does not resolve here: check its spelling and its A and AAAA records",
	Refused:        "nobody listens on that port: is the server running, and on this address and transport?",
	NoAnswer:       "packets get lost: open the port in the server's firewall, for UDP and TCP; some networks let no UDP out, then try -transport tcp or tls",
	TLSName:        "the certificate is for another name: use the name it has, or give the server a certificate for this one",
	TLSTrust:       "the certificate is not trusted here: it has expired, its chain is not complete, or its authority is unknown (-ca FILE adds one)",
	TLSFailed:      "there is no TLS on that port: TLS and DTLS are mostly on 5349, UDP and TCP on 3478",
	NotTURN:        "what answers there is no TURN server, or something in between changes the packets",
	Credentials:    "user or password is wrong, or a time-limited one has expired; Jami's own, ring and ring, work only where the server admits them (jami_user)",
	Forbidden:      "the server's policy refuses this peer: policy.lan and policy.allow open private ranges",
	Quota:          "too many allocations: see limits.allocations_per_user and limits.allocations_per_address of the server",
	Capacity:       "the server has no relay port or descriptor left: widen relay.min_port to max_port, raise LimitNOFILE",
	Unsupported:    "the server does not do this; Jami needs TCP allocations (relay.tcp) for everything but calls",
	Elsewhere:      "the server sends its clients to another one: check that",
	RelayUnreached: "nothing comes through the relay: open its port range (49152-65535 unless set otherwise) for UDP and TCP; behind a NAT set relay.external; for private addresses set policy.lan. If this network lets no UDP out, \"outside\" says so too",
}

var codes = map[stun.ErrorCode]Problem{
	stun.CodeTryAlternate: Elsewhere, stun.CodeUnauthorized: Credentials, stun.CodeWrongCredentials: Credentials, stun.CodeForbidden: Forbidden,
	stun.CodeAllocQuotaReached: Quota, stun.CodeInsufficientCapacity: Capacity, stun.CodeUnsupportedTransProto: Unsupported,
	stun.CodeAddrFamilyNotSupported: Unsupported, stun.CodeUnknownAttribute: Unsupported, stun.CodePeerAddrFamilyMismatch: Unsupported,
}

// relayError marks that data did not come through.
type relayError struct{ error }

func (e relayError) Unwrap() error { return e.error }

// diagnose says what an error means.
func diagnose(err error) Problem {
	var answer *turnclient.Error
	if errors.As(err, &answer) {
		if p, ok := codes[stun.ErrorCode(answer.Code)]; ok {
			return p
		}
		return Other
	}
	var relay relayError
	var dns *net.DNSError
	switch {
	case errors.As(err, &relay):
		return RelayUnreached
	case errors.As(err, &dns):
		return NoName
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, turnclient.ErrMalformed), errors.Is(err, turnclient.ErrIntegrity):
		return NotTURN
	}
	if p, ok := tlsProblem(err); ok {
		return p
	}
	var timeout net.Error
	switch {
	case errors.Is(err, turnclient.ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return NoAnswer
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return NotTURN
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return NoAnswer
	}
	return Other
}

func tlsProblem(err error) (Problem, bool) {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var handshake *dtls.HandshakeError
	switch {
	case errors.As(err, &name):
		return TLSName, true
	case errors.As(err, &authority), errors.As(err, &invalid):
		return TLSTrust, true
	case errors.As(err, &record), errors.As(err, &alert), errors.Is(err, io.EOF): // the end within a handshake
		return TLSFailed, true
	case errors.As(err, &handshake) && !handshake.Timeout():
		return TLSFailed, true
	}
	return "", false
}
