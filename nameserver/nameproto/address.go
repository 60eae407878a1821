package nameproto

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
)

// AddressSize is the length of an [Address] in bytes.
const AddressSize = 20

// Address is an account id: the SHA-1 of the DER SubjectPublicKeyInfo of the
// account's RSA key. Its text form is 40 lower-case hex digits.
type Address [AddressSize]byte

// AddressOf returns the address of the key whose DER SubjectPublicKeyInfo is
// spki.
func AddressOf(spki []byte) Address { return sha1.Sum(spki) }

// String returns the 40 lower-case hex digits clients compare with.
func (a Address) String() string { return hex.EncodeToString(a[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] by [ParseAddress].
func (a *Address) UnmarshalText(b []byte) error {
	p, err := ParseAddress(string(b))
	if err != nil {
		return err
	}
	*a = p
	return nil
}

// ParseAddress reads an address in any letter case, with or without the "0x"
// that the first name server put in front (docs/protocols/nameserver.md §4).
func ParseAddress(s string) (Address, error) {
	var a Address
	if len(s) == 2*AddressSize+2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		s = s[2:]
	}
	if len(s) != 2*AddressSize {
		return a, fmt.Errorf("%w: address: want %d hex digits", ErrMalformed, 2*AddressSize)
	}
	if _, err := hex.Decode(a[:], []byte(s)); err != nil {
		return a, fmt.Errorf("%w: address: not hex digits", ErrMalformed)
	}
	return a, nil
}
