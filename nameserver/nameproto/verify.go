package nameproto

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

const (
	// MinKeyBits is the smallest account key that is taken. Clients make 4096.
	MinKeyBits = 2048
	// MaxKeyBits bounds the work a stranger can ask for: verification grows
	// with the square of the key's length.
	MaxKeyBits = 8192
)

// PublicKeyDER returns the DER SubjectPublicKeyInfo in a public key as it was
// registered: PEM text, with any number of NUL bytes after it, or DER.
func PublicKeyDER(text []byte) ([]byte, error) {
	if len(text) > 0 && text[0] == 0x30 { // DER begins with a SEQUENCE
		return text, nil
	}
	block, rest := pem.Decode(bytes.TrimRight(text, "\x00"))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%w: publickey: not a PEM public key", ErrMalformed)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%w: publickey: data after the PEM block", ErrMalformed)
	}
	return block.Bytes, nil
}

// ParsePublicKey returns the RSA key in text as it was registered, and its
// DER SubjectPublicKeyInfo.
func ParsePublicKey(text []byte) (*rsa.PublicKey, []byte, error) {
	der, err := PublicKeyDER(text)
	if err != nil {
		return nil, nil, err
	}
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: publickey: not a public key", ErrMalformed)
	}
	key, ok := any.(*rsa.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("%w: publickey: not an RSA key", ErrMalformed)
	}
	if n := key.N.BitLen(); n < MinKeyBits || n > MaxKeyBits {
		return nil, nil, fmt.Errorf("%w: publickey: %d bits, want %d to %d", ErrMalformed, n, MinKeyBits, MaxKeyBits)
	}
	return key, der, nil
}

// Verify checks e as a client does (docs/protocols/nameserver.md §3): the key
// hashes to the address, and its signature covers the name. It costs about
// 0.2 ms of CPU for RSA-4096. Errors wrap [ErrMalformed] or [ErrSignature].
func (e Entry) Verify() error {
	key, der, err := ParsePublicKey(e.PublicKey)
	if err != nil {
		return err
	}
	if AddressOf(der) != e.Addr {
		return fmt.Errorf("%w: the key is not that of the address", ErrSignature)
	}
	sum := sha512.Sum512([]byte(e.Name))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA512, sum[:], e.Signature); err != nil {
		return fmt.Errorf("%w: not made over this name by this key", ErrSignature)
	}
	return nil
}

// Entry returns the lookup answer that r will have once it is registered for
// name.
func (r Registration) Entry(name string) Entry {
	return Entry{Name: name, Addr: r.Addr, PublicKey: r.PublicKey, Signature: r.Signature}
}

// Sign makes the registration of name with an account key, as a client does.
// name MUST already be lower-cased; see [LowerASCII].
func Sign(key *rsa.PrivateKey, name string) (Registration, error) {
	var r Registration
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return r, fmt.Errorf("nameproto: encode public key: %w", err)
	}
	sum := sha512.Sum512([]byte(name))
	if r.Signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA512, sum[:]); err != nil {
		return r, fmt.Errorf("nameproto: sign: %w", err)
	}
	r.PublicKey = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	r.Addr = AddressOf(der)
	return r, nil
}

// LowerASCII lower-cases the letters A to Z and nothing else, as clients do
// before they sign and register.
func LowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowerASCII(s)
		}
	}
	return s
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
