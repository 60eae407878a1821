// Package ledgertest makes signing keys and registrations for tests: genuine
// ones with RSA keys made on the spot, and cheap ones that only have the right
// shape.
package ledgertest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"testing"

	"github.com/jirani/jirani/nameserver/ledger"
)

// NewSigningKey makes a log's or a witness's key.
func NewSigningKey(tb testing.TB, name string) ledger.SigningKey {
	tb.Helper()
	k, err := ledger.GenerateSigningKey(name)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Account is an account key.
type Account struct {
	key *rsa.PrivateKey
	der []byte
}

var (
	poolMu sync.Mutex
	pool   []*Account
)

// NewAccount returns the n-th account of this process, with a key of 2048
// bits. The same n is the same account.
func NewAccount(tb testing.TB, n int) *Account {
	tb.Helper()
	poolMu.Lock()
	defer poolMu.Unlock()
	for len(pool) <= n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			tb.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			tb.Fatal(err)
		}
		pool = append(pool, &Account{key, der})
	}
	return pool[n]
}

// Address returns the account id.
func (a *Account) Address() ledger.Address { return sha1.Sum(a.der) }

// Register returns a genuine registration as an old client sends it, with a
// NUL after the PEM.
func (a *Account) Register(tb testing.TB, name string) ledger.Registration {
	tb.Helper()
	digest := sha512.Sum512([]byte(name))
	sig, err := rsa.SignPKCS1v15(nil, a.key, crypto.SHA512, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: a.der})
	return ledger.Registration{Name: name, Address: a.Address(), PublicKey: append(text, 0), Signature: sig}
}

// Shape returns a registration with key and signature of the size of RSA-4096
// that verifies nothing, for load where verification is not the point.
func Shape(n int) ledger.Registration {
	der := make([]byte, 550)
	sig := make([]byte, 512)
	copy(der, fmt.Sprintf("0%010d", n))
	copy(sig, fmt.Sprintf("%010d", n))
	return ledger.Registration{Name: fmt.Sprintf("user-%09d", n), Address: sha1.Sum(der), PublicKey: der, Signature: sig}
}
