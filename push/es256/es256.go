// Package es256 signs the JSON Web Tokens by which a push gateway identifies itself: Apple's provider tokens and
// the VAPID tokens of Web Push (RFC 8292). Both are compact JWS with ES256 (RFC 7515 §3.1, RFC 7518 §3.4): the
// base64url of header and claims, joined by a dot, and the 64 bytes of r and s.
package es256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// Sign returns header.claims.signature for two JSON texts. key must be on P-256.
func Sign(key *ecdsa.PrivateKey, header, claims []byte) (string, error) {
	if key.Curve != elliptic.P256() {
		return "", errors.New("es256: key is not on P-256")
	}
	b := base64.RawURLEncoding
	out := b.AppendEncode(nil, header)
	out = append(out, '.')
	out = b.AppendEncode(out, claims)
	sum := sha256.Sum256(out)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", fmt.Errorf("es256: %w", err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	out = append(out, '.')
	return string(b.AppendEncode(out, sig[:])), nil
}
