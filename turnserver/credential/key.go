package credential

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Key is the long-term key of RFC 8489 §9.2.2.
type Key [md5.Size]byte

// LongTermKey derives the key of a user. Names and passwords are used as the bytes they are: clients in use do no string preparation.
func LongTermKey(user, realm, password string) Key {
	return md5.Sum([]byte(user + ":" + realm + ":" + password))
}

// String does not tell the key.
func (Key) String() string { return "key" }

// Hex returns the key as 32 lower-case hexadecimal digits, the form that files and tables hold.
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// ErrKey is what ParseKey returns for anything but 32 hexadecimal digits.
var ErrKey = errors.New("credential: a key is 32 hexadecimal digits")

// ParseKey is the inverse of [Key.Hex].
func ParseKey(s string) (k Key, err error) {
	if len(s) != 2*len(k) {
		return k, ErrKey
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil {
		return Key{}, ErrKey
	}
	return k, nil
}

const (
	// MaxUser is the longest user name, in bytes (RFC 8489 §14.3: fewer than 509).
	MaxUser = 508
	// MaxRealm is the longest realm, in bytes (RFC 8489 §14.9: fewer than 763).
	MaxRealm = 762
)

// ValidUser reports what is wrong with a user name that an operator writes, or nil. A colon would make the key ambiguous in files.
func ValidUser(name string) error {
	switch {
	case name == "" || len(name) > MaxUser:
		return fmt.Errorf("credential: a user name has 1 to %d bytes", MaxUser)
	case strings.ContainsAny(name, ":\r\n\x00"):
		return errors.New("credential: a user name has no colon and no line break")
	}
	return nil
}
