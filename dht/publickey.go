package dht

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Bounds on RSA keys taken from values. Smaller keys are worthless and refused
// by the standard library; larger ones let a stranger buy our CPU time (§19.3).
const (
	MinRSABits = 1024
	MaxRSABits = 8192
)

// maxKeyBytes bounds an encoded public key: an 8192-bit RSA key needs 1062
// bytes of DER, 1.5 times that as PEM.
const maxKeyBytes = 4096

// PublicKey is a parsed public key with its ids. It is immutable and safe for
// concurrent use; compare keys with Equal.
type PublicKey struct {
	der    []byte
	key    crypto.PublicKey
	id     InfoHash
	longID PkID
}

// ParsePublicKey reads a SubjectPublicKeyInfo, DER or PEM. Trailing bytes,
// such as the NUL old versions put after PEM (§5.5), are ignored for PEM.
func ParsePublicKey(b []byte) (*PublicKey, error) {
	if len(b) > maxKeyBytes {
		return nil, fmt.Errorf("dht: public key of %d bytes: %w", len(b), ErrMalformed)
	}
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("-----BEGIN")) {
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("dht: public key PEM: %w", ErrMalformed)
		}
		b = block.Bytes
	}
	key, err := x509.ParsePKIXPublicKey(b)
	if err != nil {
		return nil, fmt.Errorf("dht: public key: %v: %w", err, ErrMalformed)
	}
	return NewPublicKey(key)
}

// NewPublicKey wraps a key of the standard library. Its DER is exported anew,
// so ids never depend on how somebody encoded the key (§21.1).
func NewPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() > MaxRSABits {
		return nil, fmt.Errorf("dht: RSA key of %d bits: %w", k.N.BitLen(), ErrMalformed)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("dht: public key: %v: %w", err, ErrMalformed)
	}
	return &PublicKey{der: der, key: key, id: HashOf(der), longID: PkIDOf(der)}, nil
}

// ID is the short key id, SHA-1 of the DER.
func (k *PublicKey) ID() InfoHash { return k.id }

// LongID is the long key id, SHA-256 of the DER.
func (k *PublicKey) LongID() PkID { return k.longID }

// DER is the SubjectPublicKeyInfo. The slice is the key's own: do not change it.
func (k *PublicKey) DER() []byte { return k.der }

// PEM is the DER in a "PUBLIC KEY" block.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
}

// Key is the key of the standard library: *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey.
func (k *PublicKey) Key() crypto.PublicKey { return k.key }

// RSA returns the key if it is an RSA key of acceptable size, else nil.
func (k *PublicKey) RSA() *rsa.PublicKey {
	key, ok := k.key.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < MinRSABits {
		return nil
	}
	return key
}

// Equal compares by long id. Two nil keys are equal.
func (k *PublicKey) Equal(o *PublicKey) bool {
	if k == nil || o == nil {
		return k == o
	}
	return k.longID == o.longID
}

// Verify checks an RSASSA-PKCS1-v1_5 signature with SHA-512 over msg (§6.1).
// EC keys never verify: upstream accepts RSA only.
func (k *PublicKey) Verify(msg, sig []byte) error {
	key := k.RSA()
	if key == nil {
		return ErrBadSignature
	}
	sum := sha512.Sum512(msg)
	if rsa.VerifyPKCS1v15(key, crypto.SHA512, sum[:], sig) != nil {
		return ErrBadSignature
	}
	return nil
}
