package dhtcrypto

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/jirani/jirani/dht"
)

// DefaultBits is the size of generated RSA keys (§6.4).
const DefaultBits = 4096

// PrivateKey is a private key with its public half. It is immutable and safe
// for concurrent use. It never prints its secret.
type PrivateKey struct {
	signer crypto.Signer
	public *dht.PublicKey
}

// NewPrivateKey wraps a key of the standard library, RSA or ECDSA.
func NewPrivateKey(signer crypto.Signer) (*PrivateKey, error) {
	public, err := dht.NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("dhtcrypto: private key: %w", err)
	}
	return &PrivateKey{signer: signer, public: public}, nil
}

// GenerateRSA makes an RSA key of that many bits, dht.MinRSABits at least.
func GenerateRSA(bits int) (*PrivateKey, error) {
	if bits < dht.MinRSABits || bits > dht.MaxRSABits {
		return nil, fmt.Errorf("generate RSA key of %d bits: %w", bits, ErrKeyType)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("generate RSA key: %w", err)
	}
	return NewPrivateKey(key)
}

// GenerateEC makes a secp384r1 key, what upstream's tools give their
// certificate authority. Peers do not accept its signatures on values.
func GenerateEC() (*PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate EC key: %w", err)
	}
	return NewPrivateKey(key)
}

// ParsePrivateKey reads PKCS#8, plain or PBES2-encrypted, PEM or DER, and the
// PKCS#1 and SEC 1 forms other tools write. The password is nil for plain keys.
func ParsePrivateKey(b, password []byte) (*PrivateKey, error) {
	kind := ""
	if bytes.Contains(b, []byte("-----BEGIN")) {
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("private key PEM: %w", ErrMalformed)
		}
		b, kind = block.Bytes, block.Type
	}
	key, err := parseDER(b, password)
	if err != nil && kind == "ENCRYPTED PRIVATE KEY" && len(password) == 0 {
		return nil, ErrPassword
	}
	if err != nil {
		return nil, err
	}
	return NewPrivateKey(key)
}

// parseDER tries the plain forms, then PBES2.
func parseDER(b, password []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(b); err == nil {
		return asSigner(key)
	}
	if key, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(b); err == nil {
		return key, nil
	}
	if len(password) == 0 {
		return nil, fmt.Errorf("private key: %w", ErrMalformed)
	}
	plain, err := decryptPBES2(b, password)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, ErrPassword
	}
	return asSigner(key)
}

func asSigner(key any) (crypto.Signer, error) {
	if signer, ok := key.(crypto.Signer); ok {
		return signer, nil
	}
	return nil, fmt.Errorf("private key of unknown kind: %w", ErrMalformed)
}

// PEM is the key as PKCS#8, encrypted when a password is given (§6.4).
func (k *PrivateKey) PEM(password []byte) ([]byte, error) {
	kind := "PRIVATE KEY"
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err == nil && len(password) > 0 {
		kind = "ENCRYPTED PRIVATE KEY"
		der, err = encryptPBES2(der, password)
	}
	if err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil
}

// Public is the public half.
func (k *PrivateKey) Public() *dht.PublicKey { return k.public }

// Signer is the key in the standard library's form, for TLS.
func (k *PrivateKey) Signer() crypto.Signer { return k.signer }

// String names the key by its public id.
func (k *PrivateKey) String() string { return "private key of " + k.public.ID().String() }

// rsa returns the RSA key or ErrKeyType.
func (k *PrivateKey) rsa() (*rsa.PrivateKey, error) {
	key, ok := k.signer.(*rsa.PrivateKey)
	if !ok || k.public.RSA() == nil {
		return nil, ErrKeyType
	}
	return key, nil
}

// Sign signs msg as values are signed (§6.1).
func (k *PrivateKey) Sign(msg []byte) ([]byte, error) {
	key, err := k.rsa()
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(msg)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA512, sum[:])
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return sig, nil
}
