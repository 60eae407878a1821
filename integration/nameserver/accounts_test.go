package nameserver

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/jirani/jirani/nameserver/nameproto"
)

// primeBits are those of one prime of an account's key of 4096 bits.
const primeBits = 2048

var exponent = big.NewInt(65537)

// primes is a growing pool. Every pair of its members makes an RSA key: fifty
// primes are good for 1,225 accounts, which cost a second each to generate
// properly. Such keys share factors and are worth nothing outside a benchmark.
var primes struct {
	sync.Mutex
	list []*big.Int
}

func primePool(tb testing.TB, n int) []*big.Int {
	tb.Helper()
	primes.Lock()
	defer primes.Unlock()
	var g errgroup.Group
	missing := make([]*big.Int, max(0, n-len(primes.list)))
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range missing {
		g.Go(func() (err error) {
			for {
				if missing[i], err = rand.Prime(rand.Reader, primeBits); err != nil {
					return err
				}
				if new(big.Int).GCD(nil, nil, exponent, minusOne(missing[i])).IsInt64() && missing[i].Bit(primeBits-2) == 1 {
					return nil // product of two such has 4096 bits
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	primes.list = append(primes.list, missing...)
	return primes.list[:n]
}

func minusOne(n *big.Int) *big.Int { return new(big.Int).Sub(n, big.NewInt(1)) }

// registrations makes n registrations of RSA-4096 accounts, each of a name of
// its own, as bodies of POST requests.
func registrations(tb testing.TB, prefix string, n int) (names []string, bodies [][]byte) {
	tb.Helper()
	k := 2
	for k*(k-1)/2 < n {
		k++
	}
	pool := primePool(tb, k)
	names, bodies = make([]string, n), make([][]byte, n)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	at := 0
	for i := range pool {
		for j := range i {
			if at == n {
				break
			}
			index := at
			at++
			g.Go(func() error {
				names[index] = prefix + spell(index)
				var err error
				bodies[index], err = signBody(pool[i], pool[j], names[index])
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	return names, bodies
}

// spell writes a number in letters of which none is confusable with another.
func spell(n int) string {
	const letters = "abcdefghjk"
	b := []byte("aaaaaa")
	for i := len(b) - 1; i >= 0; i, n = i-1, n/10 {
		b[i] = letters[n%10]
	}
	return string(b)
}

// signBody signs without crypto/rsa, which spends its time on checking keys.
func signBody(p, q *big.Int, name string) ([]byte, error) {
	pub := rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(exponent.Int64())}
	d := new(big.Int).ModInverse(exponent, new(big.Int).Mul(minusOne(p), minusOne(q)))
	digest := sha512.Sum512([]byte(name))
	// RFC 8017 §9.2: 00 01 ff … ff 00, the DER prefix of SHA-512, the digest.
	prefix := []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
	em := make([]byte, 2*primeBits/8)
	for i := range em {
		em[i] = 0xff
	}
	em[0], em[1] = 0, 1
	tail := append(append([]byte{0}, prefix...), digest[:]...)
	copy(em[len(em)-len(tail):], tail)
	m := new(big.Int).SetBytes(em)
	// By the Chinese remainder theorem: s ≡ m^d mod p and mod q.
	mp := new(big.Int).Exp(m, new(big.Int).Mod(d, minusOne(p)), p)
	mq := new(big.Int).Exp(m, new(big.Int).Mod(d, minusOne(q)), q)
	h := new(big.Int).Mul(new(big.Int).Sub(mp, mq), new(big.Int).ModInverse(q, p))
	s := new(big.Int).Add(mq, h.Mod(h, p).Mul(h, q))

	der, err := x509.MarshalPKIXPublicKey(&pub)
	if err != nil {
		return nil, err
	}
	return nameproto.AppendRegistration(nil, nameproto.Registration{
		Addr: nameproto.AddressOf(der), Owner: "4b9f8898bb67ce3fe522c56292ef38a1f68b97cb",
		Signature: s.FillBytes(make([]byte, len(em))),
		PublicKey: append(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0),
	}), nil
}

// TestRegistrationsVerify holds the shortcuts above to what a client does.
func TestRegistrationsVerify(t *testing.T) {
	names, bodies := registrations(t, "x", 3)
	for i, b := range bodies {
		r, err := nameproto.ParseRegistration(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Entry(names[i]).Verify(); err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
}
