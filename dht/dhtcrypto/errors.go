package dhtcrypto

import "errors"

// Sentinels; match with errors.Is.
var (
	// ErrDecrypt covers every way in which decryption fails, on purpose.
	ErrDecrypt = errors.New("dhtcrypto: decryption failed")
	// ErrNotForUs marks a decrypted value whose recipient is another key: drop it.
	ErrNotForUs = errors.New("dhtcrypto: recipient mismatch")
	// ErrKeyType marks a key that cannot do what was asked: only RSA encrypts
	// and makes signatures that peers accept.
	ErrKeyType = errors.New("dhtcrypto: key is not RSA of acceptable size")
	// ErrPassword marks a private key that needs a password, or another one.
	ErrPassword = errors.New("dhtcrypto: wrong or missing password")
	// ErrMalformed marks input that is no key or certificate.
	ErrMalformed = errors.New("dhtcrypto: malformed input")
)
