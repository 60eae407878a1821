package dhtcrypto_test

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jirani/jirani/dht/dhtcrypto"
)

// The AES key may have any of the three lengths, and no other (§6.2).
func TestDecryptKeyLengths(t *testing.T) {
	t.Parallel()
	bob := loadIdentity(t, "bob").Key
	for _, n := range []int{16, 24, 32} {
		b, err := dhtcrypto.EncryptWith(bob.Public(), make([]byte, n), []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bob.Decrypt(b); err != nil || string(got) != "hello" {
			t.Errorf("%d-byte key: %q, %v", n, got, err)
		}
		for i := range 3 { // no nonce, no tag, a flipped bit
			bad := [][]byte{b[:256+12], b[:len(b)-1], append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1)}[i]
			if _, err := bob.Decrypt(bad); !errors.Is(err, dhtcrypto.ErrDecrypt) {
				t.Errorf("%d-byte key, damage %d: %v", n, i, err)
			}
		}
	}
	head, err := dhtcrypto.Encrypt(bob.Public(), make([]byte, 20)) // a block whose content is no AES key
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Decrypt(append(head, make([]byte, 40)...)); !errors.Is(err, dhtcrypto.ErrDecrypt) {
		t.Errorf("20-byte key: %v", err)
	}
}

func TestPrivateKeyForms(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"alice", "ca_ec"} {
		b, err := os.ReadFile(filepath.Join(vectorDir, "keys", who+".key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		want := loadIdentity(t, who).Key.Public()
		for name, form := range map[string][]byte{"PEM": b, "DER": block.Bytes} {
			if k, err := dhtcrypto.ParsePrivateKey(form, nil); err != nil || !k.Public().Equal(want) {
				t.Errorf("%s as %s: %v", who, name, err)
			}
		}
	}
	for _, bad := range []string{"", "junk", "-----BEGIN PRIVATE KEY-----"} {
		for _, password := range []string{"", "x"} {
			if _, err := dhtcrypto.ParsePrivateKey([]byte(bad), []byte(password)); !errors.Is(err, dhtcrypto.ErrMalformed) {
				t.Errorf("ParsePrivateKey(%q): %v", bad, err)
			}
		}
	}
}
