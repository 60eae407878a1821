package dhtcrypto_test

import (
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
)

// What a node pays per signed or encrypted value, by size of the key.
func BenchmarkValue(b *testing.B) {
	for _, who := range []string{"alice", "carol4096"} {
		key := loadIdentity(b, who).Key
		v := &dht.Value{ID: 1, To: key.Public().ID(), Data: make([]byte, 200)}
		signed, err := dhtcrypto.SignValue(key, v)
		if err != nil {
			b.Fatal(err)
		}
		sealed, err := dhtcrypto.EncryptValue(key, key.Public(), v)
		if err != nil {
			b.Fatal(err)
		}
		packed := signed.Append(nil)
		for name, f := range map[string]func() error{
			"parse":   func() error { _, _, err := dht.ParseValue(packed); return err },
			"verify":  signed.Verify,
			"sign":    func() error { _, err := dhtcrypto.SignValue(key, v); return err },
			"encrypt": func() error { _, err := dhtcrypto.EncryptValue(key, key.Public(), v); return err },
			"decrypt": func() error { _, err := dhtcrypto.DecryptValue(key, sealed); return err },
		} {
			b.Run(name+"/"+who, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkParseChain(b *testing.B) {
	data := dhtcrypto.CertificateValue(loadIdentity(b, "alice").Chain).Data
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dhtcrypto.ParseChain(data); err != nil {
			b.Fatal(err)
		}
	}
}
