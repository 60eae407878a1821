package discovery

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/vectors"
)

func recorded(tb testing.TB) (packets [][]byte) {
	tb.Helper()
	for _, v := range vectors.Load(tb, "../testdata/vectors/discovery.jsonl") {
		packets = append(packets, v.Bytes(tb))
	}
	return packets
}

// encode writes a parsed packet again.
func encode(isQuery bool, services []Service) []byte {
	if isQuery {
		return AppendQuery(nil)
	}
	return AppendAnnouncement(nil, services)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	queries, nodes := 0, 0
	for _, p := range recorded(t) {
		isQuery, services, err := Parse(p)
		if err != nil {
			t.Fatalf("Parse(%x): %v", p, err)
		}
		if got := encode(isQuery, services); !bytes.Equal(got, p) {
			t.Fatalf("encoded again: %x, want %x", got, p)
		}
		if isQuery {
			queries++
		}
		for _, s := range services {
			d, err := ParseDHT(s.Object)
			if err != nil || s.Name != ServiceDHT || d.Network != 42 || (d.Port != 4222 && d.Port != 4300) {
				t.Fatalf("%s = %+v, %v", s.Name, d, err)
			}
			if got := d.Append(nil); !bytes.Equal(got, s.Object) {
				t.Fatalf("object again: %x, want %x", got, s.Object)
			}
			nodes++
		}
	}
	if queries == 0 || nodes == 0 {
		t.Fatalf("%d queries, %d nodes", queries, nodes)
	}
}

func TestAccountRoundTrip(t *testing.T) {
	t.Parallel()
	want := Account{dht.HashText("someone"), "Amina Ñuñez"}
	got, err := ParseAccount(want.Append(nil))
	if err != nil || got != want {
		t.Fatalf("ParseAccount = %+v, %v", got, err)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":             "",
		"another word":      "a172",
		"integer":           "01",
		"map cut short":     "81a364",
		"name not str":      "8101c0",
		"announced too far": "dfffffffff",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Parse(make([]byte, maxPacket+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	id := dht.HashText("x")
	for name, b := range map[string][]byte{
		"port 0":    DHT{id, 0, 1}.Append(nil),
		"zero id":   DHT{dht.InfoHash{}, 1, 1}.Append(nil),
		"two":       {0x92, 1, 2},
		"not array": {0xc0},
	} {
		if _, err := ParseDHT(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseAccount(Account{id, strings.Repeat("n", maxDisplay+1)}.Append(nil)); !errors.Is(err, ErrMalformed) {
		t.Errorf("long name: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range recorded(f) {
		f.Add(p)
	}
	f.Add(AppendAnnouncement(nil, []Service{{ServiceJami, Account{dht.HashText("a"), "name"}.Append(nil)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		isQuery, services, err := Parse(b)
		if err != nil {
			return
		}
		once := encode(isQuery, services)
		isQuery, services, err = Parse(once)
		if err != nil || !bytes.Equal(encode(isQuery, services), once) {
			t.Fatalf("%x does not survive: %v", once, err)
		}
		for _, s := range services {
			if d, err := ParseDHT(s.Object); err == nil {
				if again, err := ParseDHT(d.Append(nil)); err != nil || again != d {
					t.Fatalf("%+v became %+v, %v", d, again, err)
				}
			}
			if a, err := ParseAccount(s.Object); err == nil {
				if again, err := ParseAccount(a.Append(nil)); err != nil || again != a {
					t.Fatalf("%+v became %+v, %v", a, again, err)
				}
			}
		}
	})
}
