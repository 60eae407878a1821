package dhtcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"github.com/jirani/jirani/dht"
)

// Sizes of §6.2 in bytes.
const (
	pkcs1Overhead = 11 // what RSAES-PKCS1-v1_5 takes of a block
	gcmNonce      = 12
	gcmTag        = 16
)

// Encrypt encrypts a block to a public key (§6.2): one RSA block if it fits,
// else an RSA block with a fresh AES key followed by AES-GCM.
func Encrypt(to *dht.PublicKey, plain []byte) ([]byte, error) {
	key := to.RSA()
	if key == nil {
		return nil, ErrKeyType
	}
	room := key.Size() - pkcs1Overhead
	if len(plain) <= room {
		return encryptRSA(key, plain)
	}
	secret := make([]byte, aesKeyLen(room))
	rand.Read(secret)
	head, err := encryptRSA(key, secret)
	if err != nil {
		return nil, err
	}
	return sealGCM(head, secret, plain)
}

func encryptRSA(key *rsa.PublicKey, plain []byte) ([]byte, error) {
	//lint:ignore SA1019 the padding of the protocol (§6.2)
	b, err := rsa.EncryptPKCS1v15(rand.Reader, key, plain)
	if err != nil {
		return nil, fmt.Errorf("dhtcrypto: encrypt: %w", err)
	}
	return b, nil
}

// aesKeyLen is the longest AES key that fits: 32 for every key we accept.
func aesKeyLen(room int) int {
	for _, n := range []int{32, 24} {
		if n <= room {
			return n
		}
	}
	return 16
}

// Decrypt reverses Encrypt. Every failure is ErrDecrypt.
func (k *PrivateKey) Decrypt(b []byte) ([]byte, error) {
	key, err := k.rsa()
	if err != nil {
		return nil, err
	}
	size := key.Size()
	if len(b) < size {
		return nil, ErrDecrypt
	}
	//lint:ignore SA1019 the padding of the protocol (§6.2); no reply tells the sender how it went
	head, err := rsa.DecryptPKCS1v15(nil, key, b[:size])
	if err != nil {
		return nil, ErrDecrypt
	}
	if len(b) == size {
		return head, nil
	}
	return openGCM(head, b[size:])
}

// newGCM makes AES-GCM with the standard nonce and tag.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key) // refuses all but 16, 24 and 32 bytes
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealGCM appends IV ‖ ciphertext ‖ tag to dst.
func sealGCM(dst, key, plain []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, fmt.Errorf("dhtcrypto: encrypt: %w", err)
	}
	var nonce [gcmNonce]byte
	rand.Read(nonce[:])
	out := make([]byte, 0, len(dst)+gcmNonce+len(plain)+gcmTag)
	out = append(append(out, dst...), nonce[:]...)
	return aead.Seal(out, nonce[:], plain, nil), nil
}

// openGCM reads IV ‖ ciphertext ‖ tag.
func openGCM(key, b []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil || len(b) <= gcmNonce+gcmTag {
		return nil, ErrDecrypt
	}
	plain, err := aead.Open(nil, b[:gcmNonce], b[gcmNonce:], nil)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plain, nil
}
