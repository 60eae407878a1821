package dhtcrypto_test

import (
	"fmt"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
)

// What Alice encrypts to Bob only Bob reads, and he knows that it is hers.
func ExampleEncryptValue() {
	alice, errA := dhtcrypto.GenerateRSA(2048)
	bob, errB := dhtcrypto.GenerateRSA(2048)
	if errA != nil || errB != nil {
		fmt.Println(errA, errB)
		return
	}
	sealed, err := dhtcrypto.EncryptValue(alice, bob.Public(), &dht.Value{ID: 1, Data: []byte("hello")})
	if err != nil {
		fmt.Println(err)
		return
	}
	opened, err := dhtcrypto.DecryptValue(bob, sealed)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s from Alice: %v\n", opened.Data, opened.Owner.Equal(alice.Public()))
	// Output: hello from Alice: true
}
