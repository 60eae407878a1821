package dhtcrypto

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/jirani/jirani/dht"
)

// Identity is a private key and the certificate chain of its public half.
// Whoever holds the key can sign as its owner and read what is sent to it.
type Identity struct {
	Key   *PrivateKey
	Chain Chain // leaf first; the leaf's key is Key's public half
}

// NodeID is the node id derived from the identity (§1.2). Two nodes with one
// identity drop each other's packets.
func (id Identity) NodeID() dht.InfoHash { return dht.NodeIDOf(id.Key.Public().ID()) }

// Template says what certificate to make.
type Template struct {
	Name   string    // subject CN
	Issuer *Identity // nil for a self-signed certificate
	CA     bool      // may issue others
	Now    time.Time // start of validity
}

// validity of generated certificates (§6.4).
const validYears = 10

// oidUID is the subject attribute that holds the short key id in hex.
var oidUID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

// Issue makes the certificate of key as upstream's generator does (§6.4):
// subject CN and UID, the short id as subject key identifier, a positive
// serial of 63 random bits, ten years. The issuer's chain is appended.
func Issue(key *PrivateKey, t Template) (Identity, error) {
	id := key.Public().ID()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return Identity{}, fmt.Errorf("draw serial: %w", err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject: pkix.Name{
			CommonName: t.Name,
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUID, Value: id.String()}},
		},
		NotBefore:             t.Now.UTC(),
		NotAfter:              t.Now.UTC().AddDate(validYears, 0, 0),
		SubjectKeyId:          id[:],
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageDataEncipherment,
		BasicConstraintsValid: true,
	}
	if t.CA {
		cert.IsCA = true
		cert.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	return sign(key, cert, t.Issuer)
}

// sign signs cert with the issuer, or with key itself.
func sign(key *PrivateKey, cert *x509.Certificate, issuer *Identity) (Identity, error) {
	parent, signer, rest := cert, key, Chain(nil)
	if issuer != nil {
		if parent = issuer.Chain.Leaf().X509; parent == nil {
			return Identity{}, fmt.Errorf("issue certificate: issuer's is unreadable: %w", ErrMalformed)
		}
		signer, rest = issuer.Key, issuer.Chain
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public().Key(), signer.Signer())
	if err != nil {
		return Identity{}, fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := ParseCertificate(der)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Key: key, Chain: append(Chain{leaf}, rest...)}, nil
}

// Generate makes a self-signed authority with an EC key and a leaf with an RSA
// key of that many bits (0 means DefaultBits), as upstream's tools do.
func Generate(name string, bits int, now time.Time) (leaf, authority Identity, err error) {
	if bits == 0 {
		bits = DefaultBits
	}
	caKey, err := GenerateEC()
	if err != nil {
		return Identity{}, Identity{}, err
	}
	authority, err = Issue(caKey, Template{Name: name + " CA", CA: true, Now: now})
	if err != nil {
		return Identity{}, Identity{}, err
	}
	key, err := GenerateRSA(bits)
	if err != nil {
		return Identity{}, Identity{}, err
	}
	leaf, err = Issue(key, Template{Name: name, Issuer: &authority, Now: now})
	return leaf, authority, err
}
