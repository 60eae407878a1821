package dhtcrypto

import "github.com/jirani/jirani/dht"

// EncryptWith is Encrypt's long form with a given AES key.
func EncryptWith(to *dht.PublicKey, secret, plain []byte) ([]byte, error) {
	head, err := encryptRSA(to.RSA(), secret)
	if err != nil {
		return nil, err
	}
	return sealGCM(head, secret, plain)
}
