package turnserver

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/jirani/jirani/turnserver/credential"
	"github.com/pion/stun/v3"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The request with long-term authentication of RFC 5769 §2.4.
func TestRFC5769Request(t *testing.T) {
	t.Parallel()
	r := parseRequest(unhex(t, "00010060 2112a442 78ad3433c6ad72c029da412e"+
		"0006 0012 e3839ee38388e383aae38383e382afe382b9 0000"+
		"0015 001c 662f2f3439396b39353464364f4c33346f4c394653547679363473 41"+
		"0014 000b 6578616d706c652e6f7267 00"+
		"0008 0014 f67024656dd64a3e02b8e0712e85c9a28ca89666"))
	if r == nil {
		t.Fatal("the request is refused")
	}
	if string(r.username) != "マトリックス" || string(r.realm) != "example.org" || string(r.nonce) != "f//499k954d6OL34oL9FSTvy64sA" || !r.integrity {
		t.Errorf("user %q, realm %q, nonce %q", r.username, r.realm, r.nonce)
	}
	key := credential.LongTermKey("マトリックス", "example.org", "TheMatrIX")
	if err := stun.MessageIntegrity(key[:]).Check(r.msg); err != nil {
		t.Error(err)
	}
}

// The mapped addresses of the responses of RFC 5769 §2.2 and §2.3.
func TestRFC5769Addresses(t *testing.T) {
	t.Parallel()
	id := [stun.TransactionIDSize]byte(unhex(t, "b7e7a701bc34d686fa87dfae"))
	for value, want := range map[string]string{
		"0001 a147 e112a643":                         "192.0.2.1:32853",
		"0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9": "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
	} {
		got, ok := decodeXORAddress(unhex(t, value), id)
		if !ok || got.String() != want {
			t.Errorf("decodeXORAddress(%s) = %v, want %s", value, got, want)
		}
		if back := appendXORAddress(nil, got, id); hex.EncodeToString(back) != strings.ReplaceAll(value, " ", "") {
			t.Errorf("appendXORAddress(%v) = %x, want %s", got, back, value)
		}
	}
}

// Numbers as the IANA registries "STUN Attributes", "STUN Methods" and "STUN Error Codes" have them.
func TestIANA(t *testing.T) {
	t.Parallel()
	for got, want := range map[stun.AttrType]uint16{
		stun.AttrUsername: 0x0006, stun.AttrMessageIntegrity: 0x0008, stun.AttrErrorCode: 0x0009, stun.AttrUnknownAttributes: 0x000A,
		stun.AttrChannelNumber: 0x000C, stun.AttrLifetime: 0x000D, stun.AttrXORPeerAddress: 0x0012, stun.AttrData: 0x0013,
		stun.AttrRealm: 0x0014, stun.AttrNonce: 0x0015, stun.AttrXORRelayedAddress: 0x0016, stun.AttrRequestedAddressFamily: 0x0017,
		stun.AttrEvenPort: 0x0018, stun.AttrRequestedTransport: 0x0019, stun.AttrDontFragment: 0x001A, stun.AttrXORMappedAddress: 0x0020,
		stun.AttrReservationToken: 0x0022, stun.AttrConnectionID: 0x002A, attrAdditionalAddressFamily: 0x8000, attrAddressErrorCode: 0x8001,
		stun.AttrSoftware: 0x8022, stun.AttrFingerprint: 0x8028,
	} {
		if uint16(got) != want {
			t.Errorf("attribute %v is %#04x, want %#04x", got, uint16(got), want)
		}
	}
	for got, want := range map[stun.Method]uint16{
		stun.MethodBinding: 1, stun.MethodAllocate: 3, stun.MethodRefresh: 4, stun.MethodSend: 6, stun.MethodData: 7,
		stun.MethodCreatePermission: 8, stun.MethodChannelBind: 9, stun.MethodConnect: 10, stun.MethodConnectionBind: 11,
		stun.MethodConnectionAttempt: 12,
	} {
		if uint16(got) != want {
			t.Errorf("method %v is %d, want %d", got, uint16(got), want)
		}
	}
	for _, code := range []int{400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508} {
		if errorReasons[stun.ErrorCode(code)] == "" {
			t.Errorf("error %d has no reason phrase", code)
		}
	}
}
