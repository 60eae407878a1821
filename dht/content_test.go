package dht_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jirani/jirani/dht"
)

type appender interface{ Append([]byte) []byte }

// parsers reads the data of each type that has a structure.
var parsers = map[string]func([]byte) (appender, error){
	"type/DhtMessage":    func(b []byte) (appender, error) { return dht.ParseMessage(b) },
	"type/ImMessage":     func(b []byte) (appender, error) { return dht.ParseImMessage(b) },
	"type/TrustRequest":  func(b []byte) (appender, error) { return dht.ParseTrustRequest(b) },
	"type/IceCandidates": func(b []byte) (appender, error) { return dht.ParseIceCandidates(b) },
}

func TestContentVectors(t *testing.T) {
	t.Parallel()
	want := map[string]appender{
		"type/DhtMessage": dht.Message{Service: "svc", Data: []byte("payload")},
		"type/ImMessage": dht.ImMessage{ID: 12, Text: "hi", Date: 1700000000, DataType: "text/plain",
			Metadata: map[string]string{"k": "v"}},
		"type/TrustRequest":  dht.TrustRequest{Service: "cx.ring", ConversationID: "conv-id", Payload: []byte("payload")},
		"type/IceCandidates": dht.IceCandidates{ID: 14, Data: []byte("ice-data")},
	}
	vs := byName(t)
	for name, parse := range parsers {
		v, _, err := dht.ParseValue(vs[name])
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(v.Data)
		if diff := cmp.Diff(want[name], got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
		if b := got.Append(nil); !bytes.Equal(b, v.Data) {
			t.Errorf("%s: Append = %x, want %x", name, b, v.Data)
		}
		for n := range v.Data {
			if _, err := parse(v.Data[:n]); !errors.Is(err, dht.ErrMalformed) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
		}
	}
}

func FuzzContent(f *testing.F) {
	vs := byName(f)
	for name := range parsers {
		v, _, err := dht.ParseValue(vs[name])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(v.Data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, parse := range parsers {
			c, err := parse(b)
			if err != nil {
				continue
			}
			once := c.Append(nil)
			again, err := parse(once)
			if err != nil || !bytes.Equal(again.Append(nil), once) {
				t.Fatalf("%s: %+v reads back as %+v, %v", name, c, again, err)
			}
		}
	})
}
