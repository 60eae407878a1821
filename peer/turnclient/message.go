package turnclient

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// attrAdditionalAddressFamily is ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §18.11), for which the STUN library has no name.
const attrAdditionalAddressFamily stun.AttrType = 0x8000

const (
	protocolTCP = 6 // in REQUESTED-TRANSPORT: IANA protocol numbers
	protocolUDP = 17

	familyIPv4 = 0x01 // RFC 8489 §14.1
	familyIPv6 = 0x02
)

const (
	headerSize  = 20         // of a STUN message: type, length, cookie, transaction ID
	magicCookie = 0x2112A442 // RFC 8489 §5
)

// attribute adds itself to a message that has its transaction ID.
type attribute func(*stun.Message)

func bytesAttr(t stun.AttrType, v ...byte) attribute {
	return func(m *stun.Message) { m.Add(t, v) }
}

func uint32Attr(t stun.AttrType, v uint32) attribute {
	return bytesAttr(t, binary.BigEndian.AppendUint32(nil, v)...)
}

func lifetimeAttr(d time.Duration) attribute {
	return uint32Attr(stun.AttrLifetime, uint32(d/time.Second))
}

func channelAttr(number uint16) attribute { // RFC 8656 §18.1: the number, two bytes of zeros
	return uint32Attr(stun.AttrChannelNumber, uint32(number)<<16)
}

func peerAttr(peer netip.AddrPort) attribute {
	return func(m *stun.Message) {
		a := stun.XORMappedAddress{IP: peer.Addr().Unmap().AsSlice(), Port: int(peer.Port())}
		_ = a.AddToAs(m, stun.AttrXORPeerAddress) // fails for addresses of another length only
	}
}

// message builds a message with a new transaction ID.
func message(method stun.Method, class stun.MessageClass, attrs ...attribute) *stun.Message {
	m := stun.New()
	m.TransactionID = stun.NewTransactionID()
	m.Type = stun.NewType(method, class)
	m.WriteHeader()
	for _, add := range attrs {
		add(m)
	}
	return m
}

// parse decodes a whole STUN message, which it copies. Attributes behind MESSAGE-INTEGRITY, which it does not protect, are left out
// (RFC 8489 §14.5). A fingerprint has to be right.
func parse(b []byte) (*stun.Message, error) {
	m := stun.NewWithOptions(stun.WithStrict(true))
	if !stun.IsMessage(b) || b[0]&0xC0 != 0 || len(b)%4 != 0 || len(b) != headerSize+int(binary.BigEndian.Uint16(b[2:])) {
		return nil, fmt.Errorf("%w: no STUN message", ErrMalformed)
	}
	if err := stun.Decode(b, m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if m.Contains(stun.AttrFingerprint) && stun.Fingerprint.Check(m) != nil {
		return nil, fmt.Errorf("%w: fingerprint", ErrMalformed)
	}
	return m, nil
}

// understood reports whether all attributes that have to be understood are (RFC 8489 §6.3).
func understood(m *stun.Message) bool {
	for _, a := range m.Attributes {
		if a.Type.Required() && !a.Type.Known() {
			return false
		}
	}
	return true
}

// address returns the first XOR-…-ADDRESS attribute of a type.
func address(m *stun.Message, t stun.AttrType) (netip.AddrPort, error) {
	all, err := addresses(m, t)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return all[0], nil
}

// addresses returns all XOR-…-ADDRESS attributes of a type, one at least.
func addresses(m *stun.Message, t stun.AttrType) (all []netip.AddrPort, err error) {
	for _, a := range m.Attributes {
		if a.Type != t {
			continue
		}
		addr, ok := decodeXOR(a.Value, m.TransactionID)
		if !ok {
			return nil, fmt.Errorf("%w: %v", ErrMalformed, t)
		}
		all = append(all, addr)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no %v", ErrMalformed, t)
	}
	return all, nil
}

// decodeXOR reads the value of an XOR-…-ADDRESS attribute (RFC 8489 §14.2): a zero byte, family, port, address. The library's own reader
// takes addresses that are cut short.
func decodeXOR(v []byte, id [stun.TransactionIDSize]byte) (netip.AddrPort, bool) {
	var mask [16]byte
	binary.BigEndian.PutUint32(mask[:], magicCookie)
	copy(mask[4:], id[:])
	if !(len(v) == 8 && v[1] == familyIPv4 || len(v) == 20 && v[1] == familyIPv6) {
		return netip.AddrPort{}, false
	}
	ip := make([]byte, len(v)-4)
	for i := range ip {
		ip[i] = v[4+i] ^ mask[i]
	}
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(v[2:])^magicCookie>>16), true
}

// number returns a 32-bit attribute.
func number(m *stun.Message, t stun.AttrType) (uint32, error) {
	v, err := m.Get(t)
	if err != nil || len(v) != 4 {
		return 0, fmt.Errorf("%w: %v", ErrMalformed, t)
	}
	return binary.BigEndian.Uint32(v), nil
}

func familyOf(a netip.Addr) byte {
	if a.Unmap().Is4() {
		return familyIPv4
	}
	return familyIPv6
}
