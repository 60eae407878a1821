package wire_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/vectors"
	"github.com/jirani/jirani/dht/wire"
)

// loadVectors reads the files of ../testdata/vectors that match; see the README there.
func loadVectors(t testing.TB, pattern string) map[string][]vectors.Vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "vectors", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors match %s: %v", pattern, err)
	}
	all := make(map[string][]vectors.Vector)
	for _, f := range files {
		all[filepath.Base(f)] = vectors.Load(t, f)
	}
	return all
}

// allPackets are the datagrams of every capture and probe.
func allPackets(t testing.TB) [][]byte {
	var all [][]byte
	for _, pattern := range []string{"wire-*.jsonl", "probe-*.jsonl", "fragmented-*.jsonl"} {
		for _, vs := range loadVectors(t, pattern) {
			for _, v := range vs {
				if v.Dir != "none" && v.Hex != "" {
					all = append(all, v.Bytes(t))
				}
			}
		}
	}
	return all
}

// Whatever a reference node wrote must come back byte for byte. Probes are
// hand-made and may spell things differently; theirs must be stable.
func TestVectorsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"wire-*.jsonl", "probe-*.jsonl", "fragmented-*.jsonl"} {
		for file, vs := range loadVectors(t, pattern) {
			for _, v := range vs {
				if v.Dir == "none" || v.Hex == "" {
					continue
				}
				roundTrip(t, file, v)
			}
		}
	}
}

func roundTrip(t *testing.T, file string, v vectors.Vector) {
	t.Helper()
	b := v.Bytes(t)
	var p wire.Packet
	if err := p.Parse(b); err != nil {
		if v.Dir == "out" && refused[v.Name] {
			return
		}
		t.Errorf("%s %s: %v\n%s", file, v.Name, err, v.Notes)
		return
	}
	got := p.Append(nil)
	if v.Dir != "out" {
		if !bytes.Equal(got, b) {
			t.Errorf("%s %s:\n got %x\nwant %x\n%s", file, v.Name, got, b, v.Notes)
		}
		return
	}
	var again wire.Packet
	if err := again.Parse(got); err != nil {
		t.Errorf("%s %s: own encoding: %v", file, v.Name, err)
	} else if b := again.Append(nil); !bytes.Equal(b, got) {
		t.Errorf("%s %s: encoding not stable: %x then %x", file, v.Name, got, b)
	}
}

// Every inline value and every query of the captures survives its own codec.
func TestVectorValuesRoundTrip(t *testing.T) {
	t.Parallel()
	for _, b := range allPackets(t) {
		var p wire.Packet
		if p.Parse(b) != nil {
			continue
		}
		for _, ref := range p.Values {
			if ref.Raw == nil {
				continue
			}
			v, _, err := dht.ParseValue(ref.Raw)
			if err != nil {
				continue // probes with broken values; counted below
			}
			if got := v.Append(nil); !bytes.Equal(got, ref.Raw) && p.Kind != wire.Put {
				t.Errorf("value %x re-encodes as %x", ref.Raw, got)
			}
		}
		if p.Fields != nil {
			testFields(t, p.Fields)
		}
	}
}

func testFields(t *testing.T, b []byte) {
	t.Helper()
	selected, rows, err := wire.ParseFields(b)
	if err != nil {
		t.Errorf("ParseFields(%x): %v", b, err)
		return
	}
	var values []*dht.Value
	for _, row := range rows {
		values = append(values, &dht.Value{ID: row.ID, Type: row.Type, Owner: row.Owner, Seq: row.Seq, UserType: row.UserType})
	}
	if got := wire.AppendFields(nil, selected, values); !bytes.Equal(got, b) {
		t.Errorf("fields %x re-encode as %x", b, got)
	}
}

// The nodes of 4.3 answered exactly the probes that we can read and that pass
// the receiver's checks: our parser refuses none of the answered ones.
func TestAnsweredProbesParse(t *testing.T) {
	t.Parallel()
	for file, vs := range loadVectors(t, "probe-*.jsonl") {
		answered := make(map[string]bool)
		for _, v := range vs {
			answered[v.Name] = answered[v.Name] || strings.HasPrefix(v.Dir, "in")
		}
		for _, v := range vs {
			if v.Dir != "out" {
				continue
			}
			var p wire.Packet
			err := p.Parse(v.Bytes(t))
			if err != nil && answered[v.Name] {
				t.Errorf("%s %s: answered by the reference, but: %v", file, v.Name, err)
			}
			if err != nil && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrUnknown) {
				t.Errorf("%s %s: error of no family: %v", file, v.Name, err)
			}
			if refused[v.Name] && err == nil {
				t.Errorf("%s %s: parsed, but the reference drops it", file, v.Name)
			}
		}
	}
}

// refused are the probes that no version can parse.
var refused = map[string]bool{"unknown_query": true, "get_where_seq": true, "get_select_only_s": true}
