package credential

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

const (
	nonceTime = 4  // bytes: seconds since the maker began, big endian
	nonceMAC  = 11 // bytes of HMAC-SHA256: 88 bits, far beyond guessing within a nonce's life
	// NonceSize is the length of a nonce on the wire, in bytes: unpadded base64url, no character that needs quoting.
	NonceSize = (nonceTime + nonceMAC) * 4 / 3
)

// Nonces makes and checks nonces without remembering any. It is safe for concurrent use.
//
// Its clock is monotonic, so that a jump of the wall clock neither ages nor revives a nonce; its key is random per process, so that the
// nonces of another process are stale here, which costs a client one round trip.
type Nonces struct {
	key   [32]byte
	began time.Time
	ttl   time.Duration
}

// NewNonces returns a maker whose nonces are good for ttl.
func NewNonces(ttl time.Duration, now time.Time) *Nonces {
	n := &Nonces{began: now, ttl: ttl}
	rand.Read(n.key[:]) // never fails
	return n
}

// Append appends a nonce of NonceSize bytes.
func (n *Nonces) Append(dst []byte, now time.Time) []byte {
	var raw [nonceTime + nonceMAC]byte
	n.fill(&raw, uint32(now.Sub(n.began)/time.Second))
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

func (n *Nonces) fill(raw *[nonceTime + nonceMAC]byte, second uint32) {
	binary.BigEndian.PutUint32(raw[:], second)
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(raw[:nonceTime])
	var sum [sha256.Size]byte
	copy(raw[nonceTime:], mac.Sum(sum[:0]))
}

// Valid reports whether this maker made nonce no longer than its ttl ago.
func (n *Nonces) Valid(nonce []byte, now time.Time) bool {
	if len(nonce) != NonceSize {
		return false
	}
	var got, want [nonceTime + nonceMAC]byte
	if _, err := base64.RawURLEncoding.Decode(got[:], nonce); err != nil {
		return false
	}
	second := binary.BigEndian.Uint32(got[:])
	n.fill(&want, second)
	if !hmac.Equal(got[:], want[:]) {
		return false
	}
	age := now.Sub(n.began.Add(time.Duration(second) * time.Second))
	return age >= 0 && age <= n.ttl+time.Second // the second was rounded down
}
