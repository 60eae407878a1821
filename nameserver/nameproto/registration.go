package nameproto

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

const (
	// MaxBody is the most bytes of a registration body. A real one has 1,884;
	// the largest key the ledger takes (RSA-8192) needs about 3,500.
	MaxBody = 16 << 10
	// MaxPublicKey is the most bytes of a public key as text, decoded.
	MaxPublicKey = 4 << 10
	// MaxSignature is the most bytes of a signature: that of RSA-8192.
	MaxSignature = 1 << 10
	// MaxOwner is the most characters of the owner field, a hex address with
	// room for a prefix.
	MaxOwner = 64
)

// A Registration is the body of POST /name/<name>. The name itself travels in
// the path.
type Registration struct {
	Addr      Address // account id the name shall point to
	Owner     string  // as sent; 40 hex digits in real clients, empty if absent
	Signature []byte  // RSA PKCS#1 v1.5 with SHA-512 over the name
	PublicKey []byte  // key as sent: PEM text, in older clients with a NUL after it
}

// ParseRegistration decodes a registration body. It requires addr, signature
// and publickey, allows members it does not know (a later client may send
// more) and refuses a member that appears twice. The result does not alias
// body.
func ParseRegistration(body []byte) (Registration, error) {
	var r Registration
	if len(body) > MaxBody {
		return r, fmt.Errorf("%w: body over %d bytes", ErrMalformed, MaxBody)
	}
	var f [4]string
	if err := parseFlatObject(body, registrationFields, f[:]); err != nil {
		return r, err
	}
	return newRegistration(f[0], f[1], f[2], f[3])
}

// registrationFields is in the order in which clients write the members.
var registrationFields = []string{"addr", "owner", "signature", "publickey"}

func newRegistration(addr, owner, signature, publicKey string) (r Registration, err error) {
	if r.Addr, err = ParseAddress(addr); err != nil {
		return r, err
	}
	if len(owner) > MaxOwner {
		return r, fmt.Errorf("%w: owner: over %d characters", ErrMalformed, MaxOwner)
	}
	r.Owner = owner
	if r.Signature, err = decodeBase64("signature", signature, MaxSignature); err != nil {
		return r, err
	}
	r.PublicKey, err = decodeBase64("publickey", publicKey, MaxPublicKey)
	return r, err
}

// decodeBase64 accepts only the canonical form, so that encoding the stored
// bytes again gives the text that was registered.
func decodeBase64(field, s string, limit int) ([]byte, error) {
	if s == "" {
		return nil, fmt.Errorf("%w: %s: empty or absent", ErrMalformed, field)
	}
	if len(s) > base64.StdEncoding.EncodedLen(limit) {
		return nil, fmt.Errorf("%w: %s: over %d bytes", ErrMalformed, field, limit)
	}
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Strict().Decode(b, []byte(s))
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(s) {
		return nil, fmt.Errorf("%w: %s: not base64", ErrMalformed, field)
	}
	return b[:n], nil
}

// OwnerBytes returns the owner as 20 bytes, and whether it has that form.
func (r Registration) OwnerBytes() (owner [20]byte, ok bool) {
	if len(r.Owner) != hex.EncodedLen(len(owner)) {
		return owner, false
	}
	_, err := hex.Decode(owner[:], []byte(r.Owner))
	return owner, err == nil
}

// AppendRegistration appends the body a client sends for r, byte for byte as
// a real one writes it. Owner MUST need no JSON escaping.
func AppendRegistration(dst []byte, r Registration) []byte {
	dst = append(dst, `{"addr":"`...)
	dst = hex.AppendEncode(dst, r.Addr[:])
	dst = append(dst, `","owner":"`...)
	dst = append(dst, r.Owner...)
	dst = append(dst, `","signature":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, r.Signature)
	dst = append(dst, `","publickey":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, r.PublicKey)
	return append(dst, `"}`...)
}
