package fake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"
)

// jwt is a JSON Web Token whose signature has been checked (RFC 7519, RFC 7515 compact form).
type jwt struct {
	header struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}
	claims struct {
		Iss   string `json:"iss"`
		Sub   string `json:"sub"`
		Aud   string `json:"aud"`
		Scope string `json:"scope"`
		Iat   int64  `json:"iat"`
		Exp   int64  `json:"exp"`
	}
}

var errJWT = errors.New("fake: bad JWT")

// parseJWT checks the signature with key, an *ecdsa.PublicKey (ES256) or *rsa.PublicKey (RS256).
func parseJWT(token string, key crypto.PublicKey) (jwt, error) {
	var t jwt
	parts := strings.Split(token, ".")
	if len(parts) != 3 || part(parts[0], &t.header) != nil || part(parts[1], &t.claims) != nil {
		return t, errJWT
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return t, errJWT
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if t.header.Alg != "ES256" || len(sig) != 64 ||
			!ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			return t, errJWT
		}
	case *rsa.PublicKey:
		if t.header.Alg != "RS256" || rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
			return t, errJWT
		}
	default:
		return t, errJWT
	}
	return t, nil
}

func part(s string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// fresh reports that the token was issued at most age ago, allowing a minute between clocks.
func (t jwt) fresh(now time.Time, age time.Duration) bool {
	iat := time.Unix(t.claims.Iat, 0)
	return !iat.After(now.Add(time.Minute)) && now.Sub(iat) <= age
}
