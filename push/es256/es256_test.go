package es256

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
)

func TestSign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Sign(key, []byte(`{"alg":"ES256"}`), []byte(`{"iss":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	signed, sig, _ := strings.Cut(tok[strings.IndexByte(tok, '.')+1:], ".")
	signed = tok[:strings.IndexByte(tok, '.')+1] + signed
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || len(raw) != 64 {
		t.Fatalf("signature of %d bytes, %v", len(raw), err)
	}
	sum := sha256.Sum256([]byte(signed))
	if !ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
		t.Error("signature does not verify")
	}
	other, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if _, err := Sign(other, nil, nil); err == nil {
		t.Error("P-384 key accepted")
	}
}
