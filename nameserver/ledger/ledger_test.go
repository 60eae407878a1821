package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func samples(tb testing.TB) []Entry {
	tb.Helper()
	k, err := GenerateSigningKey("ns.example")
	if err != nil {
		tb.Fatal(err)
	}
	k2, _ := GenerateSigningKey("ns.example")
	return []Entry{
		&Register{Millis: 1, Name: "alice", Address: Address{1}, Owner: &Address{2}, Form: KeyPEMNul, SPKIHash: [32]byte{3}, SignatureHash: [32]byte{4}},
		&Register{Millis: 1, Name: "Bjørn", Key: "bjørn"},
		&MapRoot{Millis: 2, Size: 7, Count: 9, Root: Hash{5}},
		&Tombstone{Millis: 3, Key: "x", Reason: "court order"},
		NewGenesisEntry(k, 4), NewKeyEntry(k, k2, 5),
		&Policy{Millis: 6, Hash: [32]byte{1}},
		&Import{Millis: 7, Origin: "old.example", Size: 3, Root: Hash{1}},
	}
}

func TestEntryRoundTrip(t *testing.T) {
	for _, e := range samples(t) {
		b := AppendEntry(nil, e)
		got, err := ParseEntry(b)
		if err != nil {
			t.Fatalf("%v: %v", e.Kind(), err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("%v: %s", e.Kind(), d)
		}
		for n := range b {
			if _, err := ParseEntry(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v cut to %d bytes: %v", e.Kind(), n, err)
			}
		}
		if _, err := ParseEntry(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v with a byte too many: %v", e.Kind(), err)
		}
	}
}

// TestEntryBytes pins the encoding: these bytes are in logs for ever.
func TestEntryBytes(t *testing.T) {
	e := &Register{Millis: 0x0102, Name: "al", Address: Address{0xaa}, Form: KeyPEMNul, SPKIHash: [32]byte{0xbb}, SignatureHash: [32]byte{0xcc}}
	want := "\x01" + "\x00\x00\x00\x00\x00\x00\x01\x02" + "\x01" + "\x02al" + "\x00" +
		"\xaa" + strings.Repeat("\x00", 19) + "\xbb" + strings.Repeat("\x00", 31) + "\xcc" + strings.Repeat("\x00", 31)
	if got := AppendEntry(nil, e); string(got) != want {
		t.Errorf("register = %x, want %x", got, want)
	}
	m := &MapRoot{Millis: 1, Size: 2, Count: 3, Root: Hash{4}}
	want = "\x02" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x00\x03" + "\x04" + strings.Repeat("\x00", 31)
	if got := AppendEntry(nil, m); string(got) != want {
		t.Errorf("map_root = %x, want %x", got, want)
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range samples(f) {
		f.Add(AppendEntry(nil, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		if again := AppendEntry(nil, e); !bytes.Equal(again, b) {
			t.Errorf("%x encodes again as %x", b, again)
		}
	})
}

func FuzzParseBundles(f *testing.F) {
	f.Add(AppendEntryBundle(AppendEntryBundle(nil, []byte("ab")), nil), 2)
	f.Add(AppendEvidenceBundle(nil, Evidence{[]byte("k"), []byte("s")}), 1)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if entries, err := ParseEntryBundle(b, width); err == nil {
			var again []byte
			for _, e := range entries {
				again = AppendEntryBundle(again, e)
			}
			if !bytes.Equal(again, b) {
				t.Error("entry bundle does not encode to itself")
			}
		}
		if evs, err := ParseEvidenceBundle(b, width); err == nil {
			var again []byte
			for _, e := range evs {
				again = AppendEvidenceBundle(again, e)
			}
			if !bytes.Equal(again, b) {
				t.Error("evidence bundle does not encode to itself")
			}
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add("ns.example\n5\n" + Hash{1}.String() + "\n")
	f.Add("ns.example\n05\n" + Hash{1}.String() + "\nextension\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err != nil {
			return
		}
		var theirs log.Checkpoint
		if _, err := theirs.Unmarshal([]byte(text)); err != nil || theirs.Origin != c.Origin || int64(theirs.Size) != c.Size || !bytes.Equal(theirs.Hash, c.Root[:]) {
			t.Errorf("transparency-dev reads %+v %v, we %+v", theirs, err, c)
		}
	})
}

func FuzzProof(f *testing.F) {
	p := Proof{Subject: Subject{Name: "a"}, Checkpoint: []byte("x"), MapRoot: LoggedEntry{1, []byte{1}, []Hash{{1}}},
		Map: MapProof{[]Hash{{}, {2}}, &MapLeaf{Index: 3}}, Entry: &LoggedEntry{Index: 2}, Evidence: &Evidence{[]byte{1}, []byte{2}}}
	text, _ := p.MarshalText()
	f.Add(text)
	j, _ := json.Marshal(p)
	f.Add(j)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q Proof
		if p.UnmarshalText(b) == nil {
			again, _ := p.MarshalText()
			if err := q.UnmarshalText(again); err != nil {
				t.Errorf("text of a proof read is not read again: %v", err)
			}
		}
		if json.Unmarshal(b, &p) == nil {
			again, err := json.Marshal(p)
			if err != nil || json.Unmarshal(again, &q) != nil {
				t.Errorf("JSON of a proof read is not read again: %v", err)
			}
		}
	})
}

// TestProofJSON reads with encoding/json what AppendJSON wrote by hand.
func TestProofJSON(t *testing.T) {
	addr := Address{1, 2}
	for _, p := range []Proof{
		{Subject: Subject{Name: "a\"b<é\u2028"}, Checkpoint: []byte("o\n1\nx\n\n— o y\n"), MapRoot: LoggedEntry{1, []byte{1}, []Hash{{1}, {}}},
			Map: MapProof{[]Hash{{}, {2}}, &MapLeaf{MapKey{4}, 3, Hash{5}}}},
		{Subject: Subject{Address: &addr}, Checkpoint: []byte("x"), MapRoot: LoggedEntry{Index: 1 << 40, Data: []byte{}, Inclusion: []Hash{}},
			Entry: &LoggedEntry{2, []byte{9, 8}, []Hash{{1}, {2}}}, Evidence: &Evidence{[]byte{1}, []byte{2, 3}}},
	} {
		text := p.AppendJSON([]byte("before"))[len("before"):]
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil || !bytes.Equal(compact.Bytes(), text) {
			t.Errorf("not compact JSON: %v\n%s", err, text)
		}
		var got Proof
		if err := json.Unmarshal(text, &got); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Error(d)
		}
	}
}

func TestTilePath(t *testing.T) {
	for _, tc := range []struct {
		id   TileID
		path string
	}{
		{TileID{ResourceTile, 0, 0, 256}, "tile/0/000"},
		{TileID{ResourceTile, 2, 1234067, 8}, "tile/2/x001/x234/067.p/8"},
		{TileID{ResourceEntries, 0, 1000, 256}, "tile/entries/x001/000"},
		{TileID{ResourceEvidence, 0, 999, 1}, "tile/evidence/999.p/1"},
	} {
		if got := tc.id.Path(); got != tc.path {
			t.Errorf("path = %q, want %q", got, tc.path)
		}
		if got, err := ParseTilePath(tc.path); err != nil || got != tc.id {
			t.Errorf("ParseTilePath(%q) = %+v, %v", tc.path, got, err)
		}
	}
	for _, bad := range []string{"", "tile", "tile/0", "tile/0/0", "tile/0/1000", "tile/8/000", "tile/-1/000", "tile/00/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/08", "tile/0/x000/000", "tile/data/000", "tile/0/000/", "tile/entries/+01"} {
		if got, err := ParseTilePath(bad); err == nil {
			t.Errorf("ParseTilePath(%q) = %+v", bad, got)
		}
	}
}

func TestKeys(t *testing.T) {
	k, err := GenerateSigningKey("ns.example/log")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSigningKey(k.Encode() + "\n")
	if err != nil || again.VKey() != k.VKey() {
		t.Fatalf("parse of own encoding: %v", err)
	}
	if strings.Contains(k.String(), k.Encode()[30:]) {
		t.Error("String shows the secret")
	}
	c := Checkpoint{"ns.example/log", 5, Hash{1}}
	signed, err := SignCheckpoint(c, k.Signer())
	if err != nil {
		t.Fatal(err)
	}
	ring, err := KeyRing(k.VKey())
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := OpenCheckpoint(signed, c.Origin, ring); err != nil || got != c {
		t.Errorf("open = %+v, %v", got, err)
	}
	if _, _, err := OpenCheckpoint(signed, "other", ring); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("other origin: %v", err)
	}
	v, _ := note.NewVerifier(k.VKey())
	if _, _, _, err := log.ParseCheckpoint(signed, c.Origin, v); err != nil {
		t.Errorf("transparency-dev refuses our checkpoint: %v", err)
	}
	w, _ := GenerateSigningKey("witness.example")
	cosigner, err := w.Cosigner()
	if err != nil {
		t.Fatal(err)
	}
	cosigned, err := note.Sign(&note.Note{Text: c.String()}, cosigner)
	if err != nil {
		t.Fatal(err)
	}
	wv, err := ParseWitness(w.VKey())
	if err != nil {
		t.Fatal(err)
	}
	merged := MergeSignatures(MergeSignatures(signed, cosigned), cosigned)
	_, n, err := OpenCheckpoint(merged, c.Origin, ring, wv)
	if err != nil || len(n.Sigs) != 2 {
		t.Errorf("merged note: %v, %d signatures\n%s", err, len(n.Sigs), merged)
	}
}

func TestRotation(t *testing.T) {
	a, _ := GenerateSigningKey("ns.example")
	b, _ := GenerateSigningKey("ns.example")
	e := NewKeyEntry(a, b, 1)
	if err := e.Verify("ns.example", a.VKey()); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"other old key": e.Verify("ns.example", b.VKey()), "other origin": e.Verify("x.example", a.VKey()), "as genesis": e.Verify("ns.example", ""),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRealRegistrations runs the registrations of a real client through Verify,
// entry, evidence and back.
func TestRealRegistrations(t *testing.T) {
	data, err := os.ReadFile("testdata/registrations.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Body, Why string
		Valid           bool
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		r, ok := decodeBody(v.Name, v.Body)
		if err := r.Verify(); (ok && err == nil) != v.Valid {
			t.Errorf("%s (%s): %v, want valid %v", v.Name, v.Why, err, v.Valid)
		}
		if !v.Valid {
			continue
		}
		e, ev, err := NewRegister(r, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Verify(ev); err != nil {
			t.Errorf("%s: evidence: %v", v.Name, err)
		}
		if !bytes.Equal(e.PublicKeyText(ev.PublicKey), r.PublicKey) {
			t.Errorf("%s: public key text is not returned as it came", v.Name)
		}
	}
}

func decodeBody(name, body string) (Registration, bool) {
	var j struct {
		Addr      string
		Owner     string
		Signature []byte
		PublicKey []byte
	}
	if json.Unmarshal([]byte(body), &j) != nil {
		return Registration{}, false
	}
	addr, err := ParseAddress(j.Addr)
	return Registration{Name: name, Address: addr, PublicKey: j.PublicKey, Signature: j.Signature}, err == nil
}

// TestMapProofByHand checks the map of two keys against hashes put together
// here, byte by byte.
func TestMapProofByHand(t *testing.T) {
	a := MapLeaf{Key: MapKey{0x00}, Index: 1, EntryHash: Hash{1}}
	b := MapLeaf{Key: MapKey{0x40}, Index: 2, EntryHash: Hash{2}}
	// They share bit 0 and part at bit 1: root = inner(inner(a, b), empty).
	ab := MapInnerHash(MapLeafHash(a), MapLeafHash(b))
	root := MapInnerHash(ab, Hash{})
	path := MapProof{Siblings: []Hash{{}, MapLeafHash(b)}}
	if err := path.Included(root, a); err != nil {
		t.Error(err)
	}
	if err := (MapProof{Siblings: []Hash{ab}}).Absent(root, MapKey{0x80}); err != nil {
		t.Error(err)
	}
	if err := (MapProof{Siblings: path.Siblings, Other: &a}).Absent(root, MapKey{0x01}); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"own key absent":     (MapProof{Siblings: path.Siblings, Other: &a}).Absent(root, a.Key),
		"other off the path": (MapProof{Siblings: path.Siblings, Other: &a}).Absent(root, MapKey{0x40}),
		"other value":        path.Included(root, MapLeaf{Key: a.Key, Index: 2, EntryHash: a.EntryHash}),
		"empty that is not":  (MapProof{Siblings: []Hash{{}}}).Absent(root, a.Key),
		"too deep":           (MapProof{Siblings: make([]Hash, 129)}).Absent(root, a.Key),
		"inclusion by other": (MapProof{Siblings: path.Siblings, Other: &b}).Included(root, a),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v, want ErrProof", name, err)
		}
	}
	if tlog.Hash(MapLeafHash(a)) == (Hash{}) {
		t.Error("leaf hash is empty")
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("tile/2/x001/x234/067.p/8")
	f.Add("tile/evidence/x999/999")
	f.Fuzz(func(t *testing.T, path string) {
		if id, err := ParseTilePath(path); err == nil && id.Path() != path {
			t.Errorf("%q is read as %+v, whose path is %q", path, id, id.Path())
		}
	})
}
