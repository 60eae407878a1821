package state_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/dht/vectors"
)

// Shortly after the 4.3 file of the vectors was written.
var written = time.Date(2026, 11, 21, 6, 58, 0, 0, time.UTC)

func tenMinutes(dht.ValueTypeID) time.Duration { return 10 * time.Minute }

func loadVectors(t testing.TB) map[string][]byte {
	t.Helper()
	return vectors.ByName(t, "../testdata/vectors/state.jsonl")
}

func TestVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t)
	for _, version := range []string{"2.4.12", "3.0.1", "4.3"} {
		now := written
		if version != "4.3" {
			now = written.AddDate(1, 0, 0) // their clocks mean nothing
		}
		s, err := state.Parse(vs["state/"+version], now, tenMinutes)
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if s.ID.IsZero() || len(s.Nodes) != 2 || len(s.Values) != 3 || s.Skipped != 0 {
			t.Fatalf("%s: %d nodes, %d values, %d skipped", version, len(s.Nodes), len(s.Values), s.Skipped)
		}
		if a := s.Nodes[0].Addr; a != netip.MustParseAddrPort("10.77.0.1:4222") {
			t.Errorf("%s: node at %v", version, a)
		}
		for i, want := range []string{"permanent-value", "remote-value", "local-value"} {
			v := s.Values[i]
			if string(v.Value.Data) != want {
				t.Errorf("%s: value %d is %q", version, i, v.Value.Data)
			}
			if v.Created.After(now) || v.Ends.After(now.Add(10*time.Minute)) || !v.Ends.After(now) {
				t.Errorf("%s: %s lives from %v to %v", version, want, v.Created, v.Ends)
			}
			if version == "4.3" && (v.Permanent != (i == 0) || v.Source.IsValid() != (i == 1)) {
				t.Errorf("%s: permanent %v, source %v", want, v.Permanent, v.Source)
			}
		}
	}
}

// The 4.3 file comes back byte for byte: no time had to be bounded.
func TestRewrite43(t *testing.T) {
	t.Parallel()
	want := loadVectors(t)["state/4.3"]
	s, err := state.Parse(want, written, tenMinutes)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// Node entries as the reference library exports them.
func TestNodeVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../testdata/vectors/values-crypto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(b)) {
		var v struct{ Name, Hex string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(v.Name, "state/NodeExport") {
			continue
		}
		seen++
		want, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		file := append([]byte("\x82\xa1v\x01\xa5nodes\x91"), want...)
		s, err := state.Parse(file, written, tenMinutes)
		if err != nil || len(s.Nodes) != 1 {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if got := s.Append(nil); !bytes.Contains(got, want) {
			t.Errorf("%s: %x is not in %x", v.Name, want, got)
		}
	}
	if seen != 2 {
		t.Errorf("%d vectors", seen)
	}
}

func TestTimesAreBounded(t *testing.T) {
	t.Parallel()
	now := written
	value := &dht.Value{ID: 1, Data: []byte("x")}
	tests := []struct {
		name          string
		created, ends time.Time
		permanent     bool
		want          time.Time // zero: left out
	}{
		{"fresh", now.Add(-time.Minute), now.Add(9 * time.Minute), false, now.Add(9 * time.Minute)},
		{"ended", now.Add(-11 * time.Minute), now.Add(-time.Minute), false, time.Time{}},
		{"claims too long a life", now.Add(-time.Minute), now.Add(time.Hour), false, now.Add(9 * time.Minute)},
		{"from the future", now.Add(time.Hour), now.Add(2 * time.Hour), false, now.Add(10 * time.Minute)},
		{"permanent", now.Add(-24 * time.Hour), time.Time{}, true, now.Add(10 * time.Minute)},
	}
	for _, tt := range tests {
		in := state.State{ID: dht.HashText("me"), Values: []state.Stored{
			{Key: dht.HashText("k"), Value: value, Created: tt.created, Ends: tt.ends, Permanent: tt.permanent},
		}}
		got, err := state.Parse(in.Append(nil), now, tenMinutes)
		if err != nil {
			t.Fatal(err)
		}
		if tt.want.IsZero() {
			if len(got.Values) != 0 || got.Skipped != 1 {
				t.Errorf("%s: kept", tt.name)
			}
			continue
		}
		if len(got.Values) != 1 || !got.Values[0].Ends.Equal(tt.want) || got.Values[0].Created.After(now) {
			t.Errorf("%s: %+v", tt.name, got.Values)
		}
	}
}

// A file cut anywhere is damaged, never half believed.
func TestTruncated(t *testing.T) {
	t.Parallel()
	b := loadVectors(t)["state/4.3"]
	for n := range b {
		if _, err := state.Parse(b[:n], written, tenMinutes); !errors.Is(err, state.ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	b = bytes.Clone(b)
	b[3] = 2 // version
	if _, err := state.Parse(b, written, tenMinutes); !errors.Is(err, state.ErrDamaged) {
		t.Errorf("version 2: %v", err)
	}
}

func TestSaveLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.state")
	if _, err := state.Load(path, written, tenMinutes); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	want := &state.State{ID: dht.HashText("me"), Nodes: []dht.NodeAddr{
		{ID: dht.HashText("a"), Addr: netip.MustParseAddrPort("192.0.2.1:1")},
		{ID: dht.HashText("b"), Addr: netip.MustParseAddrPort("[2001:db8::1]:2")},
	}}
	for range 2 { // the second replaces the first
		if err := state.Save(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := state.Load(path, written, tenMinutes)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	if err := state.SavePorts(path, 4222, 4223); err != nil {
		t.Fatal(err)
	}
	if a, b, err := state.LoadPorts(path); a != 4222 || b != 4223 || err != nil {
		t.Errorf("ports %d, %d, %v", a, b, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := state.Save(filepath.Join(path, "below a file"), want); err == nil {
		t.Error("saved where that is impossible")
	}
}

func TestPortFile(t *testing.T) {
	t.Parallel()
	b := loadVectors(t)["state_port/4.3"]
	if got := state.AppendPorts(nil, 4300, 4300); !bytes.Equal(got, b) {
		t.Errorf("%q, want %q", got, b)
	}
	for _, bad := range []string{"", "x", "70000", "1\n2\n3\n"} {
		if _, _, err := state.ParsePorts([]byte(bad)); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("ParsePorts(%q): %v", bad, err)
		}
	}
}

// What was read is written so that it reads back the same.
func FuzzStateFile(f *testing.F) {
	for _, b := range loadVectors(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := state.Parse(b, written, tenMinutes)
		if err != nil {
			if !errors.Is(err, state.ErrDamaged) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		once := s.Append(nil)
		again, err := state.Parse(once, written, tenMinutes)
		if err != nil || again.Skipped != 0 || len(again.Values) != len(s.Values) || len(again.Nodes) != len(s.Nodes) {
			t.Fatalf("reads back as %d of %d values, %d of %d nodes: %v", len(again.Values), len(s.Values), len(again.Nodes), len(s.Nodes), err)
		}
		if twice := again.Append(nil); !bytes.Equal(once, twice) {
			t.Fatalf("not stable:\n%x\n%x", once, twice)
		}
	})
}
