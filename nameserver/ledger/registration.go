package ledger

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
)

// Bounds of what a registration may hold. They keep one entry within the 64
// KiB of an entry bundle's length prefix with much room, and one RSA
// verification below a millisecond.
const (
	MaxName      = 255  // bytes of a name or a lookup key; one length byte
	MaxPublicKey = 4096 // bytes of public key text; RSA-8192 as PEM is 1.5 KiB
	MaxSignature = 1024 // bytes; RSA-8192
	MinKeyBits   = 2048
	MaxKeyBits   = 8192
)

// AddressSize is the length of an account address in bytes.
const AddressSize = 20

// Address is an account id: SHA-1 over the DER SubjectPublicKeyInfo of the
// account key (docs/protocols/nameserver.md §1).
type Address [AddressSize]byte

// ParseAddress reads 40 hex digits of any case, with or without "0x".
func ParseAddress(s string) (Address, error) {
	var a Address
	s = strings.TrimPrefix(s, "0x")
	if len(s) != 2*AddressSize {
		return a, fmt.Errorf("%w: address of %d digits, want 40", ErrMalformed, len(s))
	}
	if _, err := hex.Decode(a[:], []byte(s)); err != nil {
		return a, fmt.Errorf("%w: address: %v", ErrMalformed, err)
	}
	return a, nil
}

// String returns 40 lower-case hex digits.
func (a Address) String() string { return hex.EncodeToString(a[:]) }

// MarshalText and UnmarshalText use the form of String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}

// Registration is what an account sends to bind a name to its address.
type Registration struct {
	// Name is the byte string the account signed, returned for ever as it is.
	Name string
	// Key is the form under which the name is looked up and unique. Empty
	// means Name itself, which is right for lower-case ASCII.
	Key string
	// Skeleton, when not empty, is unique in the store too: two names that a
	// reader would confuse share it. It is policy, not part of the log.
	Skeleton string
	Address  Address
	// Owner is the secp256k1 address clients send along; nil if absent. It
	// takes part in no check.
	Owner *Address
	// PublicKey is the text the client sent, after base64: PEM, with or
	// without a NUL at the end, or DER.
	PublicKey []byte
	Signature []byte
	// Invite is the SHA-256 of the invite token this registration spends, or
	// nil. A repeat of a registration spends nothing.
	Invite []byte
}

// LookupKey returns Key, or Name where Key is empty.
func (r Registration) LookupKey() string {
	if r.Key != "" {
		return r.Key
	}
	return r.Name
}

// Verify checks everything about r that needs no store: sizes, that the key is
// RSA of a size taken, that its SHA-1 id is the address, and that it signed the
// name (RSA PKCS#1 v1.5, SHA-512). It costs one RSA verification. Match
// ErrMalformed, ErrInvalidKey and ErrInvalidSignature.
func (r Registration) Verify() error {
	if err := r.checkSizes(); err != nil {
		return err
	}
	der, _, err := splitKeyText(r.PublicKey)
	if err != nil {
		return err
	}
	return VerifyBinding(r.Name, r.Address, der, r.Signature)
}

func (r Registration) checkSizes() error {
	switch {
	case len(r.Name) == 0 || len(r.Name) > MaxName:
		return fmt.Errorf("%w: name of %d bytes", ErrMalformed, len(r.Name))
	case len(r.Key) > MaxName:
		return fmt.Errorf("%w: lookup key of %d bytes", ErrMalformed, len(r.Key))
	case !plainText(r.Name) || !plainText(r.Key) || !plainText(r.Skeleton):
		return fmt.Errorf("%w: name is not UTF-8 without NUL", ErrMalformed)
	case len(r.PublicKey) > MaxPublicKey:
		return fmt.Errorf("%w: public key of %d bytes", ErrMalformed, len(r.PublicKey))
	case len(r.Signature) > MaxSignature:
		return fmt.Errorf("%w: signature of %d bytes", ErrMalformed, len(r.Signature))
	}
	return nil
}

// VerifyBinding checks that der is a SubjectPublicKeyInfo of an RSA key whose
// SHA-1 is addr, and that it signed name.
func VerifyBinding(name string, addr Address, der, signature []byte) error {
	pub, err := parseRSA(der)
	if err != nil {
		return err
	}
	if Address(sha1.Sum(der)) != addr {
		return fmt.Errorf("%w: address is not the id of the key", ErrInvalidKey)
	}
	digest := sha512.Sum512([]byte(name))
	if rsa.VerifyPKCS1v15(pub, crypto.SHA512, digest[:], signature) != nil {
		return ErrInvalidSignature
	}
	return nil
}

// parseRSA insists on the canonical DER, since the id and the hash in the log
// are over these bytes and a second spelling of a key must not have its own.
func parseRSA(der []byte) (*rsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalidKey, err)
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %T, want RSA", ErrInvalidKey, key)
	}
	if bits := pub.N.BitLen(); bits < MinKeyBits || bits > MaxKeyBits {
		return nil, fmt.Errorf("%w: %d bits", ErrInvalidKey, bits)
	}
	if again, err := x509.MarshalPKIXPublicKey(pub); err != nil || !bytes.Equal(again, der) {
		return nil, fmt.Errorf("%w: not in canonical DER", ErrInvalidKey)
	}
	return pub, nil
}

// KeyForm says how the text of a public key is rebuilt from its DER, so that
// clients get back the bytes they sent while the ledger stores the shorter.
type KeyForm uint8

// The forms; the values are in the log (low bits of a Register's Flags).
const (
	KeyPEM    KeyForm = iota // PEM in lines of 64, one newline at the end
	KeyPEMNul                // the same and one NUL (opendht before 4.3.0)
	KeyDER                   // the DER itself
	keyForms
)

const pemType = "PUBLIC KEY"

// splitKeyText finds DER and form of a public key text. PEM in other line
// lengths, with headers or with text around it is taken as KeyPEM: the key is
// the same and no client of any era was seen to write it.
func splitKeyText(text []byte) (der []byte, form KeyForm, err error) {
	trimmed := bytes.TrimRight(text, "\x00")
	block, _ := pem.Decode(trimmed)
	switch {
	case block == nil && len(text) > 0 && text[0] == 0x30:
		return text, KeyDER, nil
	case block == nil || block.Type != pemType:
		return nil, 0, fmt.Errorf("%w: neither PEM nor DER", ErrInvalidKey)
	case len(trimmed) < len(text):
		return block.Bytes, KeyPEMNul, nil
	}
	return block.Bytes, KeyPEM, nil
}

// keyText is the inverse of splitKeyText.
func keyText(der []byte, form KeyForm) []byte {
	switch form {
	case KeyDER:
		return der
	case KeyPEMNul:
		return append(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0)
	default:
		return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	}
}
