package dhtcrypto_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
)

func TestGenerateAndSave(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	leaf, ca, err := dhtcrypto.Generate("tester", 2048, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, short := leaf.Chain.Leaf().X509, leaf.Key.Public().ID()
	if cert == nil || cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() > 64 {
		t.Fatal("leaf unreadable or with a bad serial")
	}
	if !bytes.Equal(cert.SubjectKeyId, short[:]) || cert.Subject.CommonName != "tester" || cert.NotAfter.Year() != 2036 {
		t.Errorf("leaf: %v, key id %x, until %v", cert.Subject, cert.SubjectKeyId, cert.NotAfter)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageDataEncipherment {
		t.Errorf("key usage %b", cert.KeyUsage)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Chain.Leaf().X509)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	for _, password := range []string{"", "a password"} {
		path := filepath.Join(t.TempDir(), "id")
		if err := leaf.Save(path, []byte(password)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path + ".pem"); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key file: %v, %v", info.Mode(), err)
		}
		if err := leaf.Save(path, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("overwrites: %v", err)
		}
		got, err := dhtcrypto.Load(path, []byte(password))
		if err != nil || got.NodeID() != leaf.NodeID() || len(got.Chain) != 2 {
			t.Errorf("password %q: %v", password, err)
		}
		if password != "" {
			if _, err := dhtcrypto.Load(path, nil); !errors.Is(err, dhtcrypto.ErrPassword) {
				t.Errorf("opened without password: %v", err)
			}
		}
	}
}

func TestLoadFilesRefusesForeignPair(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(vectorDir, "keys")
	_, err := dhtcrypto.LoadFiles(filepath.Join(keys, "alice.crt.pem"), filepath.Join(keys, "bob.key.pem"), nil)
	if !errors.Is(err, dhtcrypto.ErrMalformed) {
		t.Error(err)
	}
	if _, err := dhtcrypto.Load(filepath.Join(keys, "nobody"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestEncryptValue(t *testing.T) {
	t.Parallel()
	alice, bob := loadIdentity(t, "alice").Key, loadIdentity(t, "bob").Key
	plain := &dht.Value{ID: 7, Type: 3, UserType: "text/plain", Data: []byte("secret value 1"), Priority: 1, PushType: "videoCall"}
	v, err := dhtcrypto.EncryptValue(alice, bob.Public(), plain)
	if err != nil {
		t.Fatal(err)
	}
	if v.Type != 0 || v.Owner != nil || v.Priority != 1 || v.PushType != "videoCall" || plain.Owner != nil {
		t.Errorf("outside: %+v", v)
	}
	got, err := dhtcrypto.DecryptValue(bob, parseValue(t, v.Append(nil)))
	if err != nil || string(got.Data) != "secret value 1" || got.Type != 3 || !got.Owner.Equal(alice.Public()) {
		t.Errorf("inside: %+v, %v", got, err)
	}
	if _, err := dhtcrypto.DecryptValue(alice, v); !errors.Is(err, dhtcrypto.ErrDecrypt) {
		t.Errorf("sender opens it: %v", err)
	}
	if _, err := dhtcrypto.EncryptValue(alice, loadIdentity(t, "ca_ec").Key.Public(), plain); !errors.Is(err, dhtcrypto.ErrKeyType) {
		t.Errorf("encrypted to an EC key: %v", err)
	}
}

// Values re-encrypted by a thief are not taken for the sender's (§6.3).
func TestDecryptValueRefuses(t *testing.T) {
	t.Parallel()
	alice, bob := loadIdentity(t, "alice").Key, loadIdentity(t, "bob").Key
	seal := func(inner *dht.Value) *dht.Value {
		cypher, err := dhtcrypto.Encrypt(bob.Public(), inner.AppendDat(nil))
		if err != nil {
			t.Fatal(err)
		}
		return &dht.Value{ID: 1, Cypher: cypher}
	}
	toAlice, err := dhtcrypto.SignValue(alice, &dht.Value{ID: 1, To: alice.Public().ID(), Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := dhtcrypto.SignValue(alice, &dht.Value{ID: 1, To: bob.Public().ID(), Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	forged.Data = []byte("y")
	for name, tt := range map[string]struct {
		v    *dht.Value
		want error
	}{
		"other recipient": {seal(toAlice), dhtcrypto.ErrNotForUs},
		"no owner":        {seal(&dht.Value{ID: 1, Data: []byte("x")}), dhtcrypto.ErrNotForUs},
		"forged":          {seal(forged), dht.ErrBadSignature},
		"cypher inside":   {seal(&dht.Value{ID: 1, Cypher: []byte("x")}), dht.ErrMalformed},
		"garbage":         {&dht.Value{ID: 1, Cypher: make([]byte, 300)}, dhtcrypto.ErrDecrypt},
		"short":           {&dht.Value{ID: 1, Cypher: make([]byte, 10)}, dhtcrypto.ErrDecrypt},
		"not encrypted":   {&dht.Value{ID: 1}, dhtcrypto.ErrDecrypt},
	} {
		if _, err := dhtcrypto.DecryptValue(bob, tt.v); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
