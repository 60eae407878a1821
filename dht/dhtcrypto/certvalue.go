package dhtcrypto

import (
	"fmt"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// CertificateValueID is the id under which certificates are published (§6.6).
const CertificateValueID dht.ValueID = 1

// CertificateValue is the value that publishes a chain: type 8, id 1, data a
// msgpack bin around the PEM (§6.6). It is to be put permanently, unsigned, at
// both of [CertificatePlaces].
func CertificateValue(chain Chain) *dht.Value {
	return &dht.Value{
		ID:   CertificateValueID,
		Type: dht.TypeCertificate,
		Data: msgpack.AppendBin(nil, chain.PEM()),
	}
}

// CertificatePlaces is where the certificate of a key is published. OpenDHT
// since 3.5 looks at the first, all before 3.7.2 at the second (§6.6).
func CertificatePlaces(key *dht.PublicKey) [2]dht.InfoHash {
	return [2]dht.InfoHash{key.LongID().Place(), key.ID()}
}

// ChainOf reads a certificate value found by somebody looking for a long or a
// short key id; the zero ids match any. A chain whose leaf has another key is
// somebody else's and an error: such values are to be skipped (§6.6).
func ChainOf(v *dht.Value, long dht.PkID, short dht.InfoHash) (Chain, error) {
	if v.Type != dht.TypeCertificate || v.IsEncrypted() {
		return nil, fmt.Errorf("dhtcrypto: value of type %d is no certificate: %w", v.Type, ErrMalformed)
	}
	chain, err := ParseChain(v.Data)
	if err != nil {
		return nil, err
	}
	key := chain.Leaf().Key
	if !long.IsZero() && key.LongID() != long || !short.IsZero() && key.ID() != short {
		return nil, fmt.Errorf("dhtcrypto: certificate of key %v: %w", key.ID(), ErrNotForUs)
	}
	return chain, nil
}
