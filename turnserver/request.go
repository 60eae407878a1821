package turnserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v3"
)

// Attributes that the STUN library has no names for.
const (
	attrAdditionalAddressFamily stun.AttrType = 0x8000 // RFC 8656 §18.11
	attrAddressErrorCode        stun.AttrType = 0x8001 // RFC 8656 §18.12
	// attrAdditionalDraft is what coturn 4.6.1 sends for ADDITIONAL-ADDRESS-FAMILY: the number of an early draft, assigned to nothing else.
	attrAdditionalDraft stun.AttrType = 0x8032
)

const (
	familyIPv4 = 0x01 // RFC 8489 §14.1
	familyIPv6 = 0x02

	protocolTCP = 6 // in REQUESTED-TRANSPORT: IANA protocol numbers
	protocolUDP = 17
)

// maxPeers bounds the XOR-PEER-ADDRESS attributes of one request.
const maxPeers = 64

// request is a parsed STUN message. Slices alias the message.
type request struct {
	msg *stun.Message

	username, realm, nonce []byte // nil if absent
	integrity              bool   // has MESSAGE-INTEGRITY
	fingerprint            bool

	malformed bool            // an attribute has the wrong size: 400
	unknown   []stun.AttrType // not understood though they must be: 420

	protocol     int // REQUESTED-TRANSPORT, -1 if absent
	lifetime     int // LIFETIME in seconds, -1 if absent
	family       int // REQUESTED-ADDRESS-FAMILY, -1 if absent
	additional   int // ADDITIONAL-ADDRESS-FAMILY, -1 if absent
	evenPort     int // EVEN-PORT: 0 or 1 (its R bit), -1 if absent
	reservation  []byte
	dontFragment bool

	peers        []netip.AddrPort
	channel      int // CHANNEL-NUMBER, -1 if absent
	data         []byte
	hasData      bool
	connectionID int64 // CONNECTION-ID, -1 if absent
}

// parseRequest decodes b, which it copies. It returns nil for what is not a whole STUN message with a right fingerprint, if it has one.
func parseRequest(b []byte) *request {
	m := &stun.Message{Raw: append(make([]byte, 0, len(b)+64), b...)} // room for the integrity check, which appends
	if !stun.IsMessage(b) || len(b)%4 != 0 || m.Decode() != nil || len(b) != 20+int(m.Length) {
		return nil
	}
	r := &request{msg: m, protocol: -1, lifetime: -1, family: -1, additional: -1, evenPort: -1, channel: -1, connectionID: -1}
	for _, a := range m.Attributes {
		if a.Type == stun.AttrFingerprint {
			r.fingerprint = true
			break
		}
		if !r.integrity { // what follows MESSAGE-INTEGRITY is not protected and to be ignored: RFC 8489 §14.5
			r.attribute(a)
		}
	}
	if r.fingerprint && stun.Fingerprint.Check(m) != nil {
		return nil
	}
	return r
}

// attribute takes one attribute. Of several where one is expected the first counts: RFC 8489 §14.
func (r *request) attribute(a stun.RawAttribute) {
	switch a.Type {
	case stun.AttrUsername:
		first(&r.username, a.Value)
		r.malformed = r.malformed || len(a.Value) > 513
	case stun.AttrRealm:
		first(&r.realm, a.Value)
		r.malformed = r.malformed || len(a.Value) > 763
	case stun.AttrNonce:
		first(&r.nonce, a.Value)
		r.malformed = r.malformed || len(a.Value) > 763
	case stun.AttrMessageIntegrity:
		r.integrity = true
		r.malformed = r.malformed || len(a.Value) != 20
	case stun.AttrRequestedTransport:
		r.number(&r.protocol, a.Value, 4, 24, 0xff)
	case stun.AttrLifetime:
		r.number(&r.lifetime, a.Value, 4, 0, 0xffffffff)
	case stun.AttrRequestedAddressFamily:
		r.number(&r.family, a.Value, 4, 24, 0xff)
	case attrAdditionalAddressFamily, attrAdditionalDraft:
		r.number(&r.additional, a.Value, 4, 24, 0xff)
	case stun.AttrChannelNumber:
		r.number(&r.channel, a.Value, 4, 16, 0xffff)
	case stun.AttrEvenPort:
		if len(a.Value) != 1 {
			r.malformed = true
		} else if r.evenPort < 0 {
			r.evenPort = int(a.Value[0] >> 7)
		}
	case stun.AttrReservationToken:
		first(&r.reservation, a.Value)
		r.malformed = r.malformed || len(a.Value) != 8
	case stun.AttrDontFragment:
		r.dontFragment = true
	case stun.AttrXORPeerAddress:
		r.peer(a.Value)
	case stun.AttrData:
		if !r.hasData {
			r.data, r.hasData = a.Value, true
		}
	case stun.AttrConnectionID:
		var id int
		if len(a.Value) != 4 {
			r.malformed = true
		} else if id = int(binary.BigEndian.Uint32(a.Value)); r.connectionID < 0 {
			r.connectionID = int64(id)
		}
	default:
		if a.Type < 0x8000 && !harmless(a.Type) && len(r.unknown) < 16 {
			r.unknown = append(r.unknown, a.Type)
		}
	}
}

// harmless lists attributes that must be understood and are, although nothing follows from them here.
func harmless(t stun.AttrType) bool {
	switch t {
	case stun.AttrMappedAddress, stun.AttrXORMappedAddress, stun.AttrErrorCode, stun.AttrUnknownAttributes, stun.AttrXORRelayedAddress,
		stun.AttrPriority, stun.AttrUseCandidate, stun.AttrMessageIntegritySHA256:
		return true
	}
	return false
}

func first(dst *[]byte, v []byte) {
	if *dst == nil {
		*dst = v[:len(v):len(v)]
		if v == nil {
			*dst = []byte{}
		}
	}
}

// number reads a field of a value that must have size bytes.
func (r *request) number(dst *int, v []byte, size, shift int, mask uint32) {
	if len(v) != size {
		r.malformed = true
	} else if *dst < 0 {
		*dst = int(binary.BigEndian.Uint32(v) >> shift & mask)
	}
}

func (r *request) peer(v []byte) {
	p, ok := decodeXORAddress(v, r.msg.TransactionID)
	if !ok || len(r.peers) == maxPeers {
		r.malformed = true
		return
	}
	r.peers = append(r.peers, p)
}

// decodeXORAddress reads the value of an XOR-…-ADDRESS attribute (RFC 8489 §14.2). An IPv4-mapped address stays one: the policy wants to
// see it.
func decodeXORAddress(v []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, bool) {
	if len(v) < 4 {
		return netip.AddrPort{}, false
	}
	mask := xorMask(id)
	port := binary.BigEndian.Uint16(v[2:]) ^ binary.BigEndian.Uint16(mask[:])
	switch {
	case v[1] == familyIPv4 && len(v) == 8:
		var b [4]byte
		for i := range b {
			b[i] = v[4+i] ^ mask[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom4(b), port), true
	case v[1] == familyIPv6 && len(v) == 20:
		var b [16]byte
		for i := range b {
			b[i] = v[4+i] ^ mask[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom16(b), port), true
	}
	return netip.AddrPort{}, false
}

// appendXORAddress appends the value of an XOR-…-ADDRESS attribute, 8 or 20 bytes.
func appendXORAddress(dst []byte, a netip.AddrPort, id [stun.TransactionIDSize]byte) []byte {
	mask := xorMask(id)
	family, ip := byte(familyIPv4), a.Addr().AsSlice()
	if len(ip) == 16 {
		family = familyIPv6
	}
	dst = append(dst, 0, family)
	dst = binary.BigEndian.AppendUint16(dst, a.Port()^binary.BigEndian.Uint16(mask[:]))
	for i := range ip {
		dst = append(dst, ip[i]^mask[i])
	}
	return dst
}

// xorMask is the magic cookie and the transaction ID.
func xorMask(id [stun.TransactionIDSize]byte) (mask [16]byte) {
	binary.BigEndian.PutUint32(mask[:], magicCookie)
	copy(mask[4:], id[:])
	return mask
}

const magicCookie = 0x2112A442

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return familyIPv4
	}
	return familyIPv6
}
