package dhtcrypto

import (
	"crypto/rand"
	"crypto/sha256"

	"golang.org/x/crypto/argon2"
)

// Parameters of password encryption (§6.5). One derivation takes 64 MiB of
// memory and some hundred milliseconds.
const (
	saltLen      = 16
	argonTime    = 16
	argonMemory  = 64 << 10 // KiB
	argonThreads = 1
	argonKeyLen  = 32
)

// StretchKey derives the AES-256 key of a password:
// SHA-256(Argon2i(password, salt)).
func StretchKey(password, salt []byte) []byte {
	sum := sha256.Sum256(argon2.Key(password, salt, argonTime, argonMemory, argonThreads, argonKeyLen))
	return sum[:]
}

// EncryptPassword encrypts an archive: salt ‖ IV ‖ ciphertext ‖ tag.
func EncryptPassword(plain, password []byte) ([]byte, error) {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return EncryptKey(plain, StretchKey(password, salt), salt)
}

// EncryptKey is EncryptPassword for a key already stretched with salt, for
// programs that keep the key and not the password.
func EncryptKey(plain, key, salt []byte) ([]byte, error) { return sealGCM(salt, key, plain) }

// DecryptPassword reverses EncryptPassword; a wrong password is ErrDecrypt.
func DecryptPassword(b, password []byte) ([]byte, error) {
	if len(b) <= saltLen+gcmNonce+gcmTag {
		return nil, ErrDecrypt
	}
	return openGCM(StretchKey(password, b[:saltLen]), b[saltLen:])
}

// DecryptKey is DecryptPassword for a key already stretched, the salt still
// in front.
func DecryptKey(b, key []byte) ([]byte, error) {
	if len(b) <= saltLen+gcmNonce+gcmTag {
		return nil, ErrDecrypt
	}
	return openGCM(key, b[saltLen:])
}
