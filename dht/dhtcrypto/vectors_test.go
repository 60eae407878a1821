package dhtcrypto_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/vectors"
)

const vectorDir = "../testdata/vectors" // see the README there

func loadVectors(t testing.TB, file string) map[string][]byte {
	t.Helper()
	return vectors.ByName(t, filepath.Join(vectorDir, file))
}

func loadIdentity(t testing.TB, name string) dhtcrypto.Identity {
	t.Helper()
	base := filepath.Join(vectorDir, "keys", name)
	id, err := dhtcrypto.LoadFiles(base+".crt.pem", base+".key.pem", nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func parseValue(t testing.TB, b []byte) *dht.Value {
	t.Helper()
	v, rest, err := dht.ParseValue(b)
	if err != nil || len(rest) != 0 {
		t.Fatalf("ParseValue(%x): %v, %d bytes left", b, err, len(rest))
	}
	return v
}

func TestIdentityVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	for _, who := range []string{"alice", "bob", "carol4096", "ca_ec"} {
		id := loadIdentity(t, who)
		if got := id.Key.Public().DER(); !bytes.Equal(got, vs["pubkey_der/"+who]) {
			t.Errorf("%s: DER %x", who, got)
		}
		if got := id.NodeID(); !bytes.Equal(got[:], vs["node_id/"+who]) {
			t.Errorf("%s: node id %v", who, got)
		}
		places := dhtcrypto.CertificatePlaces(id.Key.Public())
		if !bytes.Equal(places[0][:], vs["cert_key/"+who]) || !bytes.Equal(places[1][:], vs["pubkey_id/"+who]) {
			t.Errorf("%s: places %v", who, places)
		}
	}
}

func TestEncryptedKeyVector(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(vectorDir, "keys", "alice.key.enc.pem"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := dhtcrypto.ParsePrivateKey(b, []byte("vector-password"))
	if err != nil {
		t.Fatal(err)
	}
	if !k.Public().Equal(loadIdentity(t, "alice").Key.Public()) {
		t.Error("another key")
	}
	for _, pw := range []string{"", "wrong"} {
		if _, err := dhtcrypto.ParsePrivateKey(b, []byte(pw)); !errors.Is(err, dhtcrypto.ErrPassword) {
			t.Errorf("password %q: %v", pw, err)
		}
	}
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	alice, ec := loadIdentity(t, "alice").Key, loadIdentity(t, "ca_ec").Key
	msg := vs["sign/alice/msg"]
	sig, err := alice.Sign(msg)
	if err != nil || !bytes.Equal(sig, vs["sign/alice/sig"]) {
		t.Errorf("Sign = %x, %v", sig, err)
	}
	if err := alice.Public().Verify(msg, sig); err != nil {
		t.Error(err)
	}
	if alice.Public().Verify(append(msg, 'x'), sig) == nil {
		t.Error("signature of another message verifies")
	}
	if ec.Public().Verify(msg, vs["sign/ca_ec/sig"]) == nil {
		t.Error("EC signature accepted, but peers refuse them")
	}
	if _, err := ec.Sign(msg); err == nil {
		t.Error("EC key signs, but peers refuse that")
	}
}

// Signatures are deterministic, so signed values can be made anew exactly.
func TestSignedValueVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	for name, who := range map[string]string{
		"value/signed": "alice", "value/signed_seq4": "alice", "value/signed_bob": "bob", "value/signed_to": "alice",
	} {
		v := parseValue(t, vs[name])
		bare := v.Clone()
		bare.Owner, bare.Signature = nil, nil
		got, err := dhtcrypto.SignValue(loadIdentity(t, who).Key, bare)
		if err != nil || !bytes.Equal(got.Append(nil), vs[name]) {
			t.Errorf("%s: signed anew: %v", name, err)
		}
	}
}

func TestBlockVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	bob := loadIdentity(t, "bob").Key
	for name, want := range map[string][]byte{
		"encrypt/bob/short": []byte("short"),
		"encrypt/bob/245":   bytes.Repeat([]byte{0x41}, 245),
		"encrypt/bob/246":   bytes.Repeat([]byte{0x42}, 246),
	} {
		if got, err := bob.Decrypt(vs[name]); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		again, err := dhtcrypto.Encrypt(bob.Public(), want)
		if err != nil || len(again) != len(vs[name]) {
			t.Errorf("%s: Encrypt gives %d bytes, want %d (%v)", name, len(again), len(vs[name]), err)
		}
		if got, err := bob.Decrypt(again); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: own encryption: %v", name, err)
		}
	}
}

func TestAESVector(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	salted := append(make([]byte, 16), vs["aesgcm/data"]...) // DecryptKey skips a salt
	if got, err := dhtcrypto.DecryptKey(salted, vs["aesgcm/key"]); err != nil || string(got) != "hello aes" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPasswordVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	password, salt, key := []byte("secret password"), vs["aespwd/salt"], vs["aespwd/stretched"]
	if got, err := dhtcrypto.DecryptPassword(vs["aespwd/data"], password); err != nil || string(got) != "hello password" {
		t.Errorf("DecryptPassword = %q, %v", got, err)
	}
	if got, err := dhtcrypto.DecryptKey(vs["aespwd/data"], key); err != nil || string(got) != "hello password" {
		t.Errorf("DecryptKey = %q, %v", got, err)
	}
	sealed, err := dhtcrypto.EncryptKey([]byte("archive"), key, salt)
	if err != nil || !bytes.HasPrefix(sealed, salt) {
		t.Fatalf("EncryptKey = %x, %v", sealed, err)
	}
	if got, err := dhtcrypto.DecryptKey(sealed, key); err != nil || string(got) != "archive" {
		t.Errorf("DecryptKey = %q, %v", got, err)
	}
	// A password derives its key from a salt of its own. Each derivation takes a while, hence no more of them.
	if sealed, err = dhtcrypto.EncryptPassword([]byte("archive"), password); err != nil || len(sealed) != 16+12+7+16 {
		t.Fatalf("EncryptPassword = %x, %v", sealed, err)
	}
	if got, err := dhtcrypto.DecryptKey(sealed, key); !errors.Is(err, dhtcrypto.ErrDecrypt) {
		t.Errorf("opens with the key of another salt: %q", got)
	}
	if _, err := dhtcrypto.DecryptPassword(sealed[:40], password); !errors.Is(err, dhtcrypto.ErrDecrypt) {
		t.Error(err)
	}
}

// Values encrypted by all three versions, between keys of both sizes.
func TestEncryptedValueVectors(t *testing.T) {
	t.Parallel()
	vs, captured := loadVectors(t, "values-crypto.jsonl"), loadVectors(t, "captured-values.jsonl")
	var inner dht.Value
	if err := inner.ParseDat(vs["value/encrypted/plaintext"]); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, to string
		b        []byte
		data     string
	}{
		{"value/encrypted", "bob", vs["value/encrypted"], string(inner.Data)},
		{"value/encrypted_4096", "carol4096", vs["value/encrypted_4096"], ""},
		{"3.0.1", "alice", captured["encrypted/3.0.1-bob-to-alice"], "secret1"},
		{"2.4.12", "bob", captured["encrypted/2.4.12-alice-to-bob"], "secret2"},
	}
	for _, tt := range tests {
		v := parseValue(t, tt.b)
		got, err := dhtcrypto.DecryptValue(loadIdentity(t, tt.to).Key, v)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.data != "" && string(got.Data) != tt.data {
			t.Errorf("%s: data %q, want %q", tt.name, got.Data, tt.data)
		}
		if got.ID != v.ID || got.Priority != v.Priority || got.PushType != v.PushType {
			t.Errorf("%s: outer fields lost: %+v", tt.name, got)
		}
		if _, err := dhtcrypto.DecryptValue(loadIdentity(t, "ca_ec").Key, v); err == nil {
			t.Errorf("%s: opened with another key", tt.name)
		}
	}
}

func TestCapturedSignaturesVerify(t *testing.T) {
	t.Parallel()
	captured := loadVectors(t, "captured-values.jsonl")
	for _, name := range []string{"signed/4.3-carol4096", "signed/2.4.12-alice"} {
		v := parseValue(t, captured[name])
		if err := v.Verify(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		v.Seq++
		if v.Verify() == nil {
			t.Errorf("%s: verifies with another seq", name)
		}
	}
}
