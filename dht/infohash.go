package dht

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// InfoHash is a 20-byte place in the DHT: a storage key, a node id or a short
// key id (§1.1). The zero InfoHash means "none" and is valid as none of these.
type InfoHash [20]byte

// HashOf is the place of some bytes: their SHA-1.
func HashOf(b []byte) InfoHash { return sha1.Sum(b) }

// HashText is the place of a text: SHA-1 over its UTF-8 bytes.
func HashText(s string) InfoHash { return sha1.Sum([]byte(s)) }

// RandomInfoHash draws a uniformly random place.
func RandomInfoHash() InfoHash {
	var h InfoHash
	rand.Read(h[:])
	return h
}

// ParseInfoHash reads exactly 40 hex digits of either case. The reference
// ignores what follows and yields zero on error; that laxness helps nobody.
func ParseInfoHash(s string) (InfoHash, error) {
	var h InfoHash
	if len(s) != 2*len(h) {
		return InfoHash{}, fmt.Errorf("dht: infohash needs 40 hex digits, got %d: %w", len(s), ErrMalformed)
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return InfoHash{}, fmt.Errorf("dht: infohash %q: %w", s, ErrMalformed)
	}
	return h, nil
}

// InfoHashFrom copies a 20-byte slice; ok is false for any other length.
func InfoHashFrom(b []byte) (h InfoHash, ok bool) {
	if len(b) != len(h) {
		return InfoHash{}, false
	}
	return InfoHash(b), true
}

// IsZero reports whether h is the "none" hash.
func (h InfoHash) IsZero() bool { return h == InfoHash{} }

// String is 40 lower-case hex digits.
func (h InfoHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is the hex form.
func (h InfoHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads the hex form.
func (h *InfoHash) UnmarshalText(b []byte) (err error) {
	*h, err = ParseInfoHash(string(b))
	return err
}

// Compare orders hashes as big-endian numbers: −1, 0 or 1.
func (h InfoHash) Compare(o InfoHash) int { return bytes.Compare(h[:], o[:]) }

// Distance is the XOR of two hashes, to be compared with Compare.
func (h InfoHash) Distance(o InfoHash) InfoHash {
	for i := range h {
		h[i] ^= o[i]
	}
	return h
}

// CloserTo compares the distances of a and b from h: −1 when a is closer, 1
// when b is, 0 when they are the same.
func (h InfoHash) CloserTo(a, b InfoHash) int {
	for i := range h {
		if a[i] != b[i] {
			if a[i]^h[i] < b[i]^h[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// CommonBits counts the leading bits that h and o share, 0 to 160.
func (h InfoHash) CommonBits(o InfoHash) int {
	for i := range h {
		if x := h[i] ^ o[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(h)
}

// LowBit is the position of the last bit that is 1, −1 for the zero hash.
func (h InfoHash) LowBit() int {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i] != 0 {
			return 8*i + 7 - bits.TrailingZeros8(h[i])
		}
	}
	return -1
}

// Bit returns bit n, 0 to 159; bit 0 is the most significant of byte 0.
func (h InfoHash) Bit(n int) bool { return h[n/8]&(0x80>>(n%8)) != 0 }

// SetBit sets bit n to v.
func (h *InfoHash) SetBit(n int, v bool) {
	if v {
		h[n/8] |= 0x80 >> (n % 8)
	} else {
		h[n/8] &^= 0x80 >> (n % 8)
	}
}
