package dhtcrypto

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// maxChain bounds the certificates read from one chain: a Jami device has
// three (device, account, authority).
const maxChain = 16

// Certificate is one certificate. Of a leaf at least the key could be read.
type Certificate struct {
	DER  []byte
	Key  *dht.PublicKey    // nil in issuers with a kind of key we do not know
	X509 *x509.Certificate // nil if crypto/x509 refuses it, as it does negative serials
}

// ParseCertificate reads one DER certificate. Bytes after it are ignored.
func ParseCertificate(der []byte) (*Certificate, error) {
	c, err := parseIssuer(der)
	if err == nil && c.Key == nil {
		return nil, fmt.Errorf("dhtcrypto: certificate with an unknown key: %w", ErrMalformed)
	}
	return c, err
}

// parseIssuer is ParseCertificate without the need for a key that we know:
// nobody asks for an issuer by its key id.
func parseIssuer(der []byte) (*Certificate, error) {
	raw, spki, err := subjectKey(der)
	if err != nil {
		return nil, err
	}
	c := &Certificate{DER: raw}
	if key, err := dht.ParsePublicKey(spki); err == nil {
		c.Key = key
	}
	if parsed, err := x509.ParseCertificate(raw); err == nil {
		c.X509 = parsed
	}
	return c, nil
}

// subjectKey finds the whole certificate and its SubjectPublicKeyInfo in der,
// looking at nothing it does not need (RFC 5280 §4.1):
//
//	SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, validity,
//	                      subject, subjectPublicKeyInfo, … }, … }
func subjectKey(der []byte) (raw, spki []byte, err error) {
	input := cryptobyte.String(der)
	var whole, cert, tbs, key cryptobyte.String
	ok := input.ReadASN1Element(&whole, asn1.SEQUENCE)
	raw = whole
	ok = ok && whole.ReadASN1(&cert, asn1.SEQUENCE) && cert.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) &&
		tbs.SkipASN1(asn1.INTEGER) && // any sign
		tbs.SkipASN1(asn1.SEQUENCE) && tbs.SkipASN1(asn1.SEQUENCE) &&
		tbs.SkipASN1(asn1.SEQUENCE) && tbs.SkipASN1(asn1.SEQUENCE) &&
		tbs.ReadASN1Element(&key, asn1.SEQUENCE)
	if !ok {
		return nil, nil, fmt.Errorf("dhtcrypto: certificate: %w", ErrMalformed)
	}
	return raw, key, nil
}

// Chain is a certificate and its issuers, leaf first. It is not empty.
type Chain []*Certificate

// Leaf is the first certificate.
func (c Chain) Leaf() *Certificate { return c[0] }

// ParseChain reads what is found in certificate values, files and messages: a
// PEM chain leaf first, bare DER, either of them inside a msgpack bin, and a
// NUL after PEM (§6.6).
//
// The wrapping goes first: a PEM reader on the wrapped bytes does not see the
// first block, because no newline precedes it, and would take the issuer's key
// for the leaf's.
func ParseChain(b []byte) (Chain, error) {
	if r := msgpack.NewReader(b); r.Kind() == msgpack.Bin {
		if inner := r.Bin(); r.Err() == nil {
			b = inner
		}
	}
	b = bytes.Trim(b, " \t\r\n\x00")
	if bytes.HasPrefix(b, []byte("-----BEGIN")) {
		return parsePEM(b)
	}
	var chain Chain
	for len(b) > 0 && len(chain) < maxChain {
		if err := chain.add(b); err != nil {
			return nil, err
		}
		b = b[len(chain[len(chain)-1].DER):]
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("dhtcrypto: certificate: %w", ErrMalformed)
	}
	return chain, nil
}

// add parses the next certificate of a chain, the first as its leaf.
func (c *Chain) add(der []byte) error {
	parse := parseIssuer
	if len(*c) == 0 {
		parse = ParseCertificate
	}
	cert, err := parse(der)
	if err == nil {
		*c = append(*c, cert)
	}
	return err
}

// parsePEM reads CERTIFICATE blocks; the first block must be one.
func parsePEM(b []byte) (Chain, error) {
	var chain Chain
	for len(chain) < maxChain {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			return nil, fmt.Errorf("dhtcrypto: PEM block %.40q in a certificate chain: %w", block.Type, ErrMalformed)
		}
		if err := chain.add(block.Bytes); err != nil {
			return nil, err
		}
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("dhtcrypto: no certificate in PEM: %w", ErrMalformed)
	}
	return chain, nil
}

// PEM is the chain as CERTIFICATE blocks, leaf first.
func (c Chain) PEM() []byte {
	var b []byte
	for _, cert := range c {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER})...)
	}
	return b
}
