package dhtcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"hash"
)

// PBES2 (RFC 8018 §6.2) with PBKDF2 and AES-CBC, the form in which GnuTLS and
// OpenSSL write encrypted PKCS#8 keys:
//
//	SEQUENCE { SEQUENCE { pbes2, SEQUENCE { kdf, cipher } }, OCTET STRING }

// Parameters of the keys we write, and the bound on those we read.
const (
	pbkdf2Iterations    = 600_000
	maxPBKDF2Iterations = 10_000_000
	pbkdf2SaltLen       = 16
)

var (
	oidPBES2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA1  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}  // SHA-256
	oidHMACSHA5  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11} // SHA-512
	oidAES128CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type algorithm struct {
	OID    asn1.ObjectIdentifier
	Params asn1.RawValue `asn1:"optional"`
}

type encryptedKey struct {
	Algorithm algorithm
	Data      []byte
}

type pbes2Params struct{ KDF, Cipher algorithm }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLen     int       `asn1:"optional"` // GnuTLS writes it
	PRF        algorithm `asn1:"optional"` // absent for HMAC-SHA-1
}

// decryptPBES2 returns the PKCS#8 inside. Every failure looks the same.
func decryptPBES2(der, password []byte) ([]byte, error) {
	var enc encryptedKey
	var params pbes2Params
	if err := unmarshal(der, &enc); err != nil || !enc.Algorithm.OID.Equal(oidPBES2) {
		return nil, fmt.Errorf("private key: %w", ErrMalformed)
	}
	if err := unmarshal(enc.Algorithm.Params.FullBytes, &params); err != nil {
		return nil, err
	}
	var iv []byte
	if err := unmarshal(params.Cipher.Params.FullBytes, &iv); err != nil {
		return nil, err
	}
	key, err := derivePBKDF2(params, password)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil || len(iv) != aes.BlockSize || len(enc.Data) == 0 || len(enc.Data)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("private key cipher: %w", ErrMalformed)
	}
	plain := make([]byte, len(enc.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, enc.Data)
	return unpad(plain)
}

// derivePBKDF2 makes the key that the parameters ask for.
func derivePBKDF2(params pbes2Params, password []byte) ([]byte, error) {
	var kdf pbkdf2Params
	if err := unmarshal(params.KDF.Params.FullBytes, &kdf); err != nil || !params.KDF.OID.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("private key derivation: %w", ErrMalformed)
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxPBKDF2Iterations {
		return nil, fmt.Errorf("private key with %d iterations: %w", kdf.Iterations, ErrMalformed)
	}
	var prf func() hash.Hash
	switch oid := kdf.PRF.OID; {
	case len(oid) == 0, oid.Equal(oidHMACSHA1):
		prf = sha1.New
	case oid.Equal(oidHMACSHA2):
		prf = sha256.New
	case oid.Equal(oidHMACSHA5):
		prf = sha512.New
	}
	var size int
	switch oid := params.Cipher.OID; {
	case oid.Equal(oidAES128CBC):
		size = 16
	case oid.Equal(oidAES192CBC):
		size = 24
	case oid.Equal(oidAES256CBC):
		size = 32
	}
	if prf == nil || size == 0 {
		return nil, fmt.Errorf("private key with unknown cipher or derivation: %w", ErrMalformed)
	}
	return pbkdf2.Key(prf, string(password), kdf.Salt, kdf.Iterations, size)
}

// encryptPBES2 wraps PKCS#8: AES-256-CBC, PBKDF2 over HMAC-SHA-256.
func encryptPBES2(pkcs8, password []byte) ([]byte, error) {
	salt, iv := make([]byte, pbkdf2SaltLen), make([]byte, aes.BlockSize)
	rand.Read(salt)
	rand.Read(iv)
	null := asn1.RawValue{FullBytes: []byte{0x05, 0x00}}
	kdf, err := asn1.Marshal(pbkdf2Params{Salt: salt, Iterations: pbkdf2Iterations, KeyLen: 32, PRF: algorithm{oidHMACSHA2, null}})
	if err != nil {
		return nil, err
	}
	ivDER, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	params := pbes2Params{
		KDF:    algorithm{oidPBKDF2, asn1.RawValue{FullBytes: kdf}},
		Cipher: algorithm{oidAES256CBC, asn1.RawValue{FullBytes: ivDER}},
	}
	key, err := derivePBKDF2(params, password)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	data := pad(pkcs8)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	paramsDER, err := asn1.Marshal(params)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{algorithm{oidPBES2, asn1.RawValue{FullBytes: paramsDER}}, data})
}

// unmarshal reads exactly one DER object.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("private key: %w", ErrMalformed)
	}
	return nil
}

// pad copies b and appends the padding of RFC 8018 §6.1.1.
func pad(b []byte) []byte {
	n := aes.BlockSize - len(b)%aes.BlockSize
	out := make([]byte, len(b), len(b)+n)
	copy(out, b)
	for range n {
		out = append(out, byte(n))
	}
	return out
}

// unpad removes it; wrong padding means a wrong password.
func unpad(b []byte) ([]byte, error) {
	n := int(b[len(b)-1])
	if n < 1 || n > aes.BlockSize {
		return nil, ErrPassword
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, ErrPassword
		}
	}
	return b[:len(b)-n], nil
}
