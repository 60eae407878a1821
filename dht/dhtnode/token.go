package dhtnode

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	mrand "math/rand/v2"
	"net/netip"
	"time"
)

// tokenLen is the length of our write tokens, the reference's own (docs/protocols/opendht.md §3.4).
const tokenLen = sha256.Size

// A secret is replaced after a random time in this range, so that a token is valid for 15 to 90 minutes.
const (
	tokenRotateMin = 15 * time.Minute
	tokenRotateMax = 45 * time.Minute
)

// tokens issues and checks write tokens: HMAC-SHA-256 of the requester's address and port under a secret of our own.
// The secret before the current one is still accepted. It keeps nothing per requester and does not allocate.
type tokens struct {
	now, before hash.Hash // keyed; used by one goroutine at a time
	rotateAt    time.Time
	buf         [18]byte
	sum         [tokenLen]byte
}

func newTokens(now time.Time) *tokens {
	t := &tokens{now: newSecret(), before: newSecret()}
	t.schedule(now)
	return t
}

func newSecret() hash.Hash {
	var key [32]byte
	rand.Read(key[:])
	return hmac.New(sha256.New, key[:])
}

func (t *tokens) schedule(now time.Time) {
	t.rotateAt = now.Add(tokenRotateMin + mrand.N(tokenRotateMax-tokenRotateMin))
}

// rotate replaces the secret if its time has come.
func (t *tokens) rotate(now time.Time) {
	if now.Before(t.rotateAt) {
		return
	}
	t.now, t.before = newSecret(), t.now
	t.schedule(now)
}

// issue returns the token of addr, valid until the next call of a method.
func (t *tokens) issue(addr netip.AddrPort) []byte { return t.compute(t.now, addr) }

// valid reports whether token was issued to addr not too long ago.
func (t *tokens) valid(token []byte, addr netip.AddrPort) bool {
	if len(token) != tokenLen {
		return false
	}
	return hmac.Equal(token, t.compute(t.now, addr)) || hmac.Equal(token, t.compute(t.before, addr))
}

func (t *tokens) compute(h hash.Hash, addr netip.AddrPort) []byte {
	h.Reset()
	b := t.buf[:0]
	if a := addr.Addr(); a.Is4() {
		a4 := a.As4()
		b = append(b, a4[:]...)
	} else {
		a16 := a.As16()
		b = append(b, a16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, addr.Port())
	h.Write(b)
	return h.Sum(t.sum[:0])
}
