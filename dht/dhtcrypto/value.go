package dhtcrypto

import (
	"fmt"

	"github.com/jirani/jirani/dht"
)

// SignValue returns a copy of v owned and signed by k (§5.3). Seq and To are
// covered, so they must be set before; see §7.2 for choosing Seq.
func SignValue(k *PrivateKey, v *dht.Value) (*dht.Value, error) {
	if v.IsEncrypted() {
		return nil, fmt.Errorf("dhtcrypto: sign: value is encrypted: %w", dht.ErrMalformed)
	}
	signed := v.Clone()
	signed.Owner = k.Public()
	sig, err := k.Sign(signed.AppendBody(nil))
	if err != nil {
		return nil, err
	}
	signed.Signature = sig
	return signed, nil
}

// EncryptValue signs v with k for the recipient and encrypts it (§6.3). The
// result has v's id, priority and push type; everything else is in the cypher.
func EncryptValue(k *PrivateKey, to *dht.PublicKey, v *dht.Value) (*dht.Value, error) {
	directed := v.Clone()
	directed.To = to.ID()
	signed, err := SignValue(k, directed)
	if err != nil {
		return nil, err
	}
	cypher, err := Encrypt(to, signed.AppendDat(nil))
	if err != nil {
		return nil, err
	}
	return &dht.Value{ID: v.ID, Cypher: cypher, Priority: v.Priority, PushType: v.PushType}, nil
}

// DecryptValue opens an encrypted value with k (§6.3). It requires an owner, a
// valid signature and k as the recipient; the errors are ErrDecrypt,
// ErrNotForUs, dht.ErrUnsigned, dht.ErrBadSignature and dht.ErrMalformed. An
// RSA operation with the private key: not for the packet loop.
func DecryptValue(k *PrivateKey, v *dht.Value) (*dht.Value, error) {
	if !v.IsEncrypted() {
		return nil, ErrDecrypt
	}
	dat, err := k.Decrypt(v.Cypher)
	if err != nil {
		return nil, err
	}
	plain := &dht.Value{ID: v.ID, Priority: v.Priority, PushType: v.PushType}
	if err := plain.ParseDat(dat); err != nil {
		return nil, err
	}
	if plain.To != k.Public().ID() {
		return nil, ErrNotForUs
	}
	if err := plain.Verify(); err != nil {
		return nil, err
	}
	return plain, nil
}
