package dht

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// PkID is the 32-byte long id of a public key (PublicKeyLongID): SHA-256 over
// its DER SubjectPublicKeyInfo (§1.2).
type PkID [32]byte

// PkIDOf hashes a DER SubjectPublicKeyInfo.
func PkIDOf(der []byte) PkID { return sha256.Sum256(der) }

// ParsePkID reads exactly 64 hex digits of either case.
func ParsePkID(s string) (PkID, error) {
	var id PkID
	if len(s) != 2*len(id) {
		return PkID{}, fmt.Errorf("dht: long key id needs 64 hex digits, got %d: %w", len(s), ErrMalformed)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return PkID{}, fmt.Errorf("dht: long key id %q: %w", s, ErrMalformed)
	}
	return id, nil
}

// IsZero reports whether id is unset.
func (id PkID) IsZero() bool { return id == PkID{} }

// String is 64 lower-case hex digits.
func (id PkID) String() string { return hex.EncodeToString(id[:]) }

// Place is where a certificate of this key is published since OpenDHT 3.5:
// SHA-1 over the raw 32 bytes (§1.2, §6.6).
func (id PkID) Place() InfoHash { return HashOf(id[:]) }

// MarshalText is the hex form.
func (id PkID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads the hex form.
func (id *PkID) UnmarshalText(b []byte) (err error) {
	*id, err = ParsePkID(string(b))
	return err
}

// NodeIDOf derives the node id of an identity from the short id of its
// certificate: SHA-1 of the text "node:" and 40 hex digits (§1.2).
func NodeIDOf(keyID InfoHash) InfoHash { return HashText("node:" + keyID.String()) }
