package dht_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jirani/jirani/dht"
)

// Whatever parses has one encoding, reads back equal, and never holds more
// than it was given.
func FuzzParseValue(f *testing.F) {
	for _, b := range packedValues(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := dht.ParseValue(b)
		if err != nil {
			if !errors.Is(err, dht.ErrMalformed) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		if v.Size() > len(b)-len(rest) {
			t.Fatalf("%d bytes out of %d", v.Size(), len(b))
		}
		once := v.Append(nil)
		w, rest, err := dht.ParseValue(once)
		if err != nil || len(rest) != 0 {
			t.Fatalf("own encoding %x: %v", once, err)
		}
		if twice := w.Append(nil); !bytes.Equal(once, twice) || !v.Equal(w) || v.ID != w.ID {
			t.Fatalf("not stable:\n%x\n%x", once, twice)
		}
		if len(once) > v.EncodedBound() {
			t.Fatalf("%d bytes, bound %d", len(once), v.EncodedBound())
		}
	})
}

func FuzzQuery(f *testing.F) {
	for name, b := range byName(f) {
		if strings.HasPrefix(name, "query/") {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := dht.ParseQuery(b)
		if err != nil {
			return
		}
		again, err := dht.ParseQuery(q.Append(nil))
		if err != nil || !bytes.Equal(q.Append(nil), again.Append(nil)) || !again.Equal(q) {
			t.Fatalf("%+v reads back as %+v, %v", q, again, err)
		}
	})
}

func FuzzValueJSON(f *testing.F) {
	for _, b := range packedValues(f) {
		v, _, err := dht.ParseValue(b)
		if err != nil {
			f.Fatal(err)
		}
		j, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(j)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, w dht.Value
		if json.Unmarshal(b, &v) != nil || !utf8.ValidString(v.UserType+v.PushType) {
			return
		}
		j, err := json.Marshal(&v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(j, &w); err != nil || !bytes.Equal(v.Append(nil), w.Append(nil)) {
			t.Fatalf("%s reads back differently: %v", j, err)
		}
	})
}
