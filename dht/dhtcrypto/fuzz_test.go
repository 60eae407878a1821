package dhtcrypto_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jirani/jirani/dht/dhtcrypto"
)

// What parses as a chain writes itself as PEM that reads back the same.
func FuzzCertificate(f *testing.F) {
	for _, who := range []string{"alice", "bob", "carol4096", "ca_ec"} {
		chain := loadIdentity(f, who).Chain
		f.Add(chain.PEM())
		f.Add(chain.Leaf().DER)
	}
	f.Add(negativeSerial(f).Data)
	f.Add(dhtcrypto.CertificateValue(loadIdentity(f, "alice").Chain).Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := dhtcrypto.ParseChain(b)
		if err != nil {
			if !errors.Is(err, dhtcrypto.ErrMalformed) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		again, err := dhtcrypto.ParseChain(chain.PEM())
		if err != nil || len(again) != len(chain) || !again.Leaf().Key.Equal(chain.Leaf().Key) {
			t.Fatalf("PEM reads back as %d of %d certificates: %v", len(again), len(chain), err)
		}
	})
}

func FuzzIPService(f *testing.F) {
	vs := loadVectors(f, "values-crypto.jsonl")
	f.Add(parseValue(f, vs["type/IpServiceAnnouncement4"]).Data)
	f.Add(parseValue(f, vs["type/IpServiceAnnouncement6"]).Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := dhtcrypto.ParseIPService(b)
		if err != nil {
			return
		}
		if again, err := dhtcrypto.ParseIPService(dhtcrypto.IPServiceData(a)); err != nil || again.Port() != a.Port() || again.Addr() != a.Addr().Unmap() {
			t.Fatalf("%v reads back as %v, %v", a, again, err)
		}
	})
}

// Private keys come from files that people hand around.
func FuzzPrivateKey(f *testing.F) {
	for _, who := range []string{"alice", "ca_ec"} {
		b, err := os.ReadFile(filepath.Join(vectorDir, "keys", who+".key.pem"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Without a password: with one, a mutated iteration count only burns time.
		k, err := dhtcrypto.ParsePrivateKey(b, nil)
		if err != nil {
			return
		}
		out, err := k.PEM(nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := dhtcrypto.ParsePrivateKey(out, nil); err != nil || !again.Public().Equal(k.Public()) {
			t.Fatalf("reads back as another key: %v", err)
		}
	})
}
