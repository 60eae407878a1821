package dhtcrypto_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/vectors"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/msgpack"
)

// The certificate put by the 2.4.12 node of the capture: negative serial, and
// its PEM starts right after a msgpack header.
func negativeSerial(t testing.TB) *dht.Value {
	t.Helper()
	var pieces []byte
	for _, v := range vectors.Load(t, filepath.Join(vectorDir, "wire-2.4.12.jsonl")) {
		if v.Name == "part" && len(pieces) < 2000 {
			var p wire.Packet
			if err := p.Parse(v.Bytes(t)); err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, p.Pieces[0].Data...)
		}
	}
	return parseValue(t, pieces)
}

func TestNegativeSerial(t *testing.T) {
	t.Parallel()
	v := negativeSerial(t)
	chain, err := dhtcrypto.ParseChain(v.Data)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 {
		t.Errorf("%d certificates, want leaf and issuer", len(chain))
	}
	if leaf := chain.Leaf(); leaf.X509 != nil || leaf.Key.RSA() == nil {
		t.Errorf("leaf: x509 %v, key %T; this one is there for its negative serial", leaf.X509 != nil, leaf.Key.Key())
	}
	short := chain.Leaf().Key.ID()
	if _, err := dhtcrypto.Types(nil).Get(v.Type).Store(short, v, from); err != nil {
		t.Errorf("at its short id: %v", err)
	}
}

// All forms that readers meet give the same leaf (§6.6).
func TestParseChainForms(t *testing.T) {
	t.Parallel()
	id := loadIdentity(t, "alice")
	pem := id.Chain.PEM()
	var der []byte
	for _, c := range id.Chain {
		der = append(der, c.DER...)
	}
	for name, b := range map[string][]byte{
		"PEM":          pem,
		"wrapped PEM":  msgpack.AppendBin(nil, pem),
		"PEM and NUL":  append(bytes.Clone(pem), 0),
		"wrapped, NUL": msgpack.AppendBin(nil, append(bytes.Clone(pem), 0)),
		"DER":          der,
		"wrapped DER":  msgpack.AppendBin(nil, der),
		"CRLF":         bytes.ReplaceAll(pem, []byte("\n"), []byte("\r\n")),
	} {
		chain, err := dhtcrypto.ParseChain(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !chain.Leaf().Key.Equal(id.Key.Public()) || len(chain) != len(id.Chain) {
			t.Errorf("%s: leaf %v, %d certificates", name, chain.Leaf().Key.ID(), len(chain))
		}
	}
	for _, b := range [][]byte{nil, {0xc4, 0}, []byte("-----BEGIN CERTIFICATE-----"), []byte("junk"), pem[:len(pem)/3], id.Key.Public().PEM()} {
		if _, err := dhtcrypto.ParseChain(b); !errors.Is(err, dhtcrypto.ErrMalformed) {
			t.Errorf("ParseChain(%.30q): %v", b, err)
		}
	}
}

// An issuer with a kind of key we do not know does not hide its leaf; a leaf
// with one is of no use.
func TestUnknownIssuerKey(t *testing.T) {
	t.Parallel()
	id := loadIdentity(t, "alice")
	rsaKey := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01} // rsaEncryption
	odd := bytes.Replace(id.Chain.Leaf().DER, rsaKey, append(rsaKey[:8:8], 0x7f), 1)
	if chain, err := dhtcrypto.ParseChain(append(bytes.Clone(id.Chain.Leaf().DER), odd...)); err != nil || len(chain) != 2 || chain[1].Key != nil {
		t.Errorf("odd issuer: %v", err)
	}
	if _, err := dhtcrypto.ParseChain(odd); !errors.Is(err, dhtcrypto.ErrMalformed) {
		t.Errorf("odd leaf: %v", err)
	}
}

func TestCertificateValue(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	id := loadIdentity(t, "alice")
	if got := dhtcrypto.CertificateValue(id.Chain).Append(nil); !bytes.Equal(got, vs["value/certificate"]) {
		t.Errorf("CertificateValue differs: %d bytes, want %d", len(got), len(vs["value/certificate"]))
	}
	captured := loadVectors(t, "captured-values.jsonl")
	for name, who := range map[string]string{
		"certificate/2.4.12-alice-at-short-id": "alice", "certificate/4.3-carol4096-at-hash-of-long-id": "carol4096",
	} {
		v, key := parseValue(t, captured[name]), loadIdentity(t, who).Key.Public()
		for _, look := range []struct {
			long  dht.PkID
			short dht.InfoHash
			ok    bool
		}{
			{key.LongID(), key.ID(), true},
			{key.LongID(), dht.InfoHash{}, true},
			{dht.PkID{}, key.ID(), true},
			{dht.PkID{1}, dht.InfoHash{}, false},
			{dht.PkID{}, dht.InfoHash{1}, false},
		} {
			if _, err := dhtcrypto.ChainOf(v, look.long, look.short); (err == nil) != look.ok {
				t.Errorf("%s: ChainOf(%v, %v): %v", name, look.long, look.short, err)
			}
		}
	}
	if _, err := dhtcrypto.ChainOf(&dht.Value{ID: 1}, dht.PkID{}, dht.InfoHash{}); err == nil {
		t.Error("user data taken for a certificate")
	}
}
