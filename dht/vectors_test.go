package dht_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/vectors"
)

const vectorDir = "testdata/vectors/" // see the README there

// byName indexes values-crypto.jsonl.
func byName(t testing.TB) map[string][]byte {
	t.Helper()
	return vectors.ByName(t, vectorDir+"values-crypto.jsonl")
}

// packedValues are the vectors that are whole serialised values.
func packedValues(t testing.TB) map[string][]byte {
	t.Helper()
	m := make(map[string][]byte)
	for name, b := range byName(t) {
		kind, rest, _ := strings.Cut(name, "/")
		if kind == "type" || kind == "value" && !strings.Contains(rest, "/") {
			m[name] = b
		}
	}
	for name, b := range vectors.ByName(t, vectorDir+"captured-values.jsonl") {
		m["captured/"+name] = b
	}
	return m
}

func TestHashVectors(t *testing.T) {
	t.Parallel()
	for name, want := range byName(t) {
		kind, arg, _ := strings.Cut(name, "/")
		switch kind {
		case "infohash_get":
			if got := dht.HashText(arg); !bytes.Equal(got[:], want) {
				t.Errorf("HashText(%q) = %v, want %x", arg, got, want)
			}
		case "h256_get":
			if got := dht.PkIDOf([]byte(arg)); !bytes.Equal(got[:], want) {
				t.Errorf("PkIDOf(%q) = %v, want %x", arg, got, want)
			}
		}
	}
}

func TestPublicKeyVectors(t *testing.T) {
	t.Parallel()
	vs := byName(t)
	for _, who := range []string{"alice", "bob", "carol4096", "ca_ec"} {
		der := vs["pubkey_der/"+who]
		k, err := dht.ParsePublicKey(der)
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		id, long, place, node := k.ID(), k.LongID(), k.LongID().Place(), dht.NodeIDOf(k.ID())
		for _, c := range []struct {
			what      string
			got, want []byte
		}{
			{"DER", k.DER(), der},
			{"ID", id[:], vs["pubkey_id/"+who]},
			{"LongID", long[:], vs["pubkey_longid/"+who]},
			{"Place", place[:], vs["cert_key/"+who]},
			{"NodeIDOf", node[:], vs["node_id/"+who]},
		} {
			if !bytes.Equal(c.got, c.want) {
				t.Errorf("%s: %s = %x, want %x", who, c.what, c.got, c.want)
			}
		}
		again, err := dht.ParsePublicKey(append(k.PEM(), 0))
		if err != nil || !again.Equal(k) {
			t.Errorf("%s: PEM with NUL does not read back: %v", who, err)
		}
	}
}

func TestValueVectorsRoundTrip(t *testing.T) {
	t.Parallel()
	for name, b := range packedValues(t) {
		v, rest, err := dht.ParseValue(b)
		if err != nil || len(rest) != 0 {
			t.Errorf("%s: ParseValue: %v, %d bytes left", name, err, len(rest))
			continue
		}
		if got := v.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: Append = %x, want %x", name, got, b)
		}
		if n := v.EncodedBound(); n < len(b) || n > len(b)+120 {
			t.Errorf("%s: EncodedBound = %d for %d bytes", name, n, len(b))
		}
		if v.IsSigned() {
			if err := v.Verify(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var back dht.Value
		if err := json.Unmarshal(j, &back); err != nil {
			t.Errorf("%s: JSON %s: %v", name, j, err)
		} else if got := back.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: JSON round trip gives %x, want %x", name, got, b)
		}
	}
}

func TestBodyVectors(t *testing.T) {
	t.Parallel()
	vs := byName(t)
	for _, name := range []string{"value/signed", "value/signed_to"} {
		v, _, err := dht.ParseValue(vs[name])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := v.AppendBody(nil), vs[name+"/tosign"]; !bytes.Equal(got, want) {
			t.Errorf("%s: AppendBody = %x, want %x", name, got, want)
		}
	}
	v, _, err := dht.ParseValue(vs["value/signed"])
	if err != nil || !bytes.Equal(v.Signature, vs["value/signed/signature"]) {
		t.Errorf("signature differs: %v", err)
	}
	var inner dht.Value
	if err := inner.ParseDat(vs["value/encrypted/plaintext"]); err != nil {
		t.Fatal(err)
	}
	if err := inner.Verify(); err != nil || inner.To.IsZero() {
		t.Errorf("plaintext: %v, to %v", err, inner.To)
	}
}

func TestQueryVectors(t *testing.T) {
	t.Parallel()
	for name, b := range byName(t) {
		if !strings.HasPrefix(name, "query/") || len(b) == 0 {
			continue
		}
		q, err := dht.ParseQuery(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := q.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: Append = %x, want %x", name, got, b)
		}
	}
}
