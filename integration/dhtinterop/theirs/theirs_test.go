package theirs

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"testing"
	"time"
)

// The drivers against each other: what fails here is not our node's fault.
func TestDrivers(t *testing.T) {
	Require(t)
	t.Parallel()
	node := StartNode(t, Options{Network: 7, Identity: true})
	py := StartPython(t, Options{Network: 7, Identity: true, Bootstrap: fmt.Sprintf("127.0.0.1:%d", node.Port)})
	waitFor(t, func() (bool, error) {
		a, err := node.Good()
		if err != nil {
			return false, err
		}
		b, err := py.Good()
		return a > 0 && b > 0, err
	})
	sum := sha1.Sum([]byte("place"))
	place := hex.EncodeToString(sum[:])
	next, err := py.Listen(place)
	check(t, err)
	_, err = node.Put("place", "plain")
	check(t, err)
	check(t, node.PutSigned("place", "signed"))
	want := []Value{{Data: []byte("plain")}, {Data: []byte("signed"), Signed: true, Owner: node.KeyID}}
	if node.LongID == "" { // a newer build and the installed library do not find each other's certificates
		check(t, node.PutEncrypted("place", py.KeyID, "secret"))
		want = append(want, Value{Data: []byte("secret"), Signed: true, Decrypted: true, Owner: node.KeyID})
	}
	var got []Value
	for range want {
		v, err := next()
		check(t, err)
		got = append(got, v)
	}
	for i, want := range want {
		g := got[i]
		if string(g.Data) != string(want.Data) || g.Signed != want.Signed || g.Decrypted != want.Decrypted || g.Owner != want.Owner {
			t.Errorf("heard %+v, want %+v", g, want)
		}
	}
	check(t, py.Put(place, Value{ID: 99, Data: []byte("from-python"), UserType: "text/plain"}))
	values, err := node.Get("place", "WHERE id=99")
	if err != nil || len(values) != 1 || string(values[0].Data) != "from-python" {
		t.Errorf("Get = %+v, %v", values, err)
	}
	rows, err := node.Query("place", "SELECT id WHERE id=99")
	if err != nil || len(rows) != 1 || rows[0] != "Id:63" {
		t.Errorf("Query = %q, %v", rows, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, f func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		ok, err := f()
		check(t, err)
		if ok {
			return
		}
	}
	t.Fatal("waited in vain")
}
