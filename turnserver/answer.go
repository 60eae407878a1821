package turnserver

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/jirani/jirani/turnserver/credential"
	"github.com/pion/stun/v3"
)

// refusal is why a request was answered with an error, or not at all. It is a closed set, for a metric's label.
type refusal string

const (
	refusedMalformed      refusal = "malformed"
	refusedNoCredentials  refusal = "no_credentials" // the ordinary first step of every client
	refusedStaleNonce     refusal = "stale_nonce"
	refusedCredentials    refusal = "wrong_credentials"
	refusedExpired        refusal = "expired_credentials"
	refusedAttribute      refusal = "unknown_attribute"
	refusedMismatch       refusal = "allocation_mismatch"
	refusedUser           refusal = "other_user"
	refusedTransport      refusal = "transport"
	refusedFamily         refusal = "address_family"
	refusedQuotaUser      refusal = "quota_user"
	refusedQuotaAddress   refusal = "quota_address"
	refusedQuotaTotal     refusal = "quota_total"
	refusedPorts          refusal = "no_port"
	refusedSockets        refusal = "no_socket"
	refusedDraining       refusal = "draining"
	refusedForbidden      refusal = "forbidden"
	refusedConnectionID   refusal = "connection_id"
	refusedConnect        refusal = "connect"
	refusedTooMany        refusal = "too_many"
	refusedUserTable      refusal = "user_table"
	refusedRate           refusal = "rate"
	refusedConnections    refusal = "connections"
	refusedSlow           refusal = "slow"
	refusedProxyProtocol  refusal = "proxy_protocol"
	refusedUnknownMethod  refusal = "unknown_method"
	refusedPeerPermission refusal = "peer_without_permission"
)

var refusals = []refusal{refusedMalformed, refusedNoCredentials, refusedStaleNonce, refusedCredentials, refusedExpired, refusedAttribute,
	refusedMismatch, refusedUser, refusedTransport, refusedFamily, refusedQuotaUser, refusedQuotaAddress, refusedQuotaTotal, refusedPorts,
	refusedSockets, refusedDraining, refusedForbidden, refusedConnectionID, refusedConnect, refusedTooMany, refusedUserTable, refusedRate,
	refusedConnections, refusedSlow, refusedProxyProtocol, refusedUnknownMethod, refusedPeerPermission}

// failure is an error answer: its code and why it was given.
type failure struct {
	code   stun.ErrorCode
	reason refusal
}

// errorReasons are the reason phrases of RFC 8656 §18.13 and RFC 6062 §6.3.
var errorReasons = map[stun.ErrorCode]string{
	stun.CodeBadRequest: "Bad Request", stun.CodeUnauthorized: "Unauthorized", stun.CodeForbidden: "Forbidden",
	stun.CodeUnknownAttribute: "Unknown Attribute", stun.CodeAllocMismatch: "Allocation Mismatch", stun.CodeStaleNonce: "Stale Nonce",
	stun.CodeAddrFamilyNotSupported: "Address Family not Supported", stun.CodeWrongCredentials: "Wrong Credentials",
	stun.CodeUnsupportedTransProto: "Unsupported Transport Protocol", stun.CodePeerAddrFamilyMismatch: "Peer Address Family Mismatch",
	stun.CodeConnAlreadyExists: "Connection Already Exists", stun.CodeConnTimeoutOrFailure: "Connection Timeout or Failure",
	stun.CodeAllocQuotaReached: "Allocation Quota Reached", stun.CodeServerError: "Server Error",
	stun.CodeInsufficientCapacity: "Insufficient Capacity",
}

// identity is who sent an authenticated request.
type identity struct {
	user  string
	realm string
	key   credential.Key
}

// answer is a response in the making.
type answer struct {
	m  stun.Message
	to *request
	id *identity // nil: sent without integrity
}

func (r *request) answer(class stun.MessageClass, id *identity) *answer {
	a := &answer{to: r, id: id}
	a.m.Raw = make([]byte, 0, 256)
	a.m.TransactionID = r.msg.TransactionID
	a.m.Type = stun.NewType(r.msg.Type.Method, class)
	a.m.WriteHeader()
	return a
}

func (a *answer) address(t stun.AttrType, addr netip.AddrPort) *answer {
	var buf [20]byte
	a.m.Add(t, appendXORAddress(buf[:0], addr, a.m.TransactionID))
	return a
}

func (a *answer) uint32(t stun.AttrType, v uint32) *answer {
	var buf [4]byte
	binary.BigEndian.PutUint32(buf[:], v)
	a.m.Add(t, buf[:])
	return a
}

func (a *answer) lifetime(d time.Duration) *answer {
	return a.uint32(stun.AttrLifetime, uint32((d+time.Second/2)/time.Second))
}

func (a *answer) bytes(t stun.AttrType, v []byte) *answer {
	a.m.Add(t, v)
	return a
}

// errorCode adds ERROR-CODE (RFC 8489 §14.8), or ADDRESS-ERROR-CODE's tail, which has the same form but for a leading family.
func (a *answer) errorCode(t stun.AttrType, family byte, code stun.ErrorCode) *answer {
	v := []byte{family, 0, byte(code / 100), byte(code % 100)}
	a.m.Add(t, append(v, errorReasons[code]...))
	return a
}

// seal completes the message: integrity if the sender is known, a fingerprint if the request had one.
func (a *answer) seal() []byte {
	a.m.WriteHeader()
	if a.id != nil {
		_ = stun.MessageIntegrity(a.id.key[:]).AddTo(&a.m) // fails only behind a fingerprint
	}
	if a.to.fingerprint {
		_ = stun.Fingerprint.AddTo(&a.m)
	}
	return a.m.Raw
}

// refuse answers with an error and counts it. The codes 400, 401, 420 and 438 go without integrity when they come before
// authentication is done; id tells.
func (s *Server) refuse(l link, r *request, id *identity, f failure) {
	s.metrics.refused(f.reason)
	a := r.answer(stun.ClassErrorResponse, id).errorCode(stun.AttrErrorCode, 0, f.code)
	switch f.code {
	case stun.CodeUnauthorized, stun.CodeStaleNonce:
		now := time.Now()
		var nonce [credential.NonceSize]byte
		a.bytes(stun.AttrRealm, []byte(l.realm()))
		a.bytes(stun.AttrNonce, s.nonces.Append(nonce[:0], now))
	case stun.CodeUnknownAttribute:
		var list []byte
		for _, t := range r.unknown {
			list = binary.BigEndian.AppendUint16(list, uint16(t))
		}
		a.bytes(stun.AttrUnknownAttributes, list)
	}
	l.reply(a.seal())
}
