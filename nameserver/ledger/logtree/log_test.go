package logtree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/nameserver/ledger"
)

func leafHash(i int) ledger.Hash {
	return tlog.RecordHash(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

type tileKey struct {
	level int
	n     int64
}

// TestAgainstMerkle grows a log in batches of odd sizes, some of them dropped,
// and has transparency-dev/merkle compute the roots and check the proofs.
func TestAgainstMerkle(t *testing.T) {
	stored := map[tileKey]*Tile{}
	fetch := func(level int, n int64) (*Tile, error) {
		if f, ok := stored[tileKey{level, n}]; ok {
			return f, nil
		}
		return nil, errors.New("no such tile")
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	want := factory.NewEmptyRange(0)
	var edge Edge
	for step := 0; edge.Size() < 140_000; step++ {
		batch := 1 + step*step%5000
		if step%3 == 1 { // a batch that does not commit
			a := edge.Append()
			for i := range batch {
				a.Add(leafHash(-i))
			}
		}
		a := edge.Append()
		for range batch {
			h := leafHash(int(a.Size()))
			a.Add(h)
			if err := want.Append(h[:], nil); err != nil {
				t.Fatal(err)
			}
		}
		root, err := a.Root(fetch)
		if err != nil {
			t.Fatal(err)
		}
		wantRoot, _ := want.GetRootHash(nil)
		if !bytes.Equal(root[:], wantRoot) {
			t.Fatalf("size %d: root %v, want %x", a.Size(), root, wantRoot)
		}
		for _, f := range a.Full {
			again, err := ExpandTile(f.Tile.Bytes(ledger.TileWidth))
			if err != nil || *again != *f.Tile {
				t.Fatalf("tile %d/%d does not expand to itself: %v", f.Level, f.N, err)
			}
			stored[tileKey{f.Level, f.N}] = f.Tile
		}
		edge = a.Edge()
		checkProofs(t, edge, root, fetch, step)
	}
}

func checkProofs(t *testing.T, edge Edge, root ledger.Hash, fetch Fetch, seed int) {
	t.Helper()
	size := edge.Size()
	for i := range int64(8) {
		index := (i*7919 + int64(seed)*31) % size
		p, err := tlog.ProveRecord(size, index, edge.Reader(fetch))
		if err != nil {
			t.Fatal(err)
		}
		h := leafHash(int(index))
		var hashes [][]byte
		for i := range p {
			hashes = append(hashes, p[i][:])
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size), h[:], hashes, root[:]); err != nil {
			t.Fatal(err)
		}
		if old, err := tlog.TreeHash(index+1, edge.Reader(fetch)); err != nil || index+1 == size && old != root {
			t.Fatalf("hash of the log at %d: %v %v", index+1, old, err)
		}
	}
}

func TestTileData(t *testing.T) {
	a := Edge{}.Append()
	for i := range 300 {
		a.Add(leafHash(i))
	}
	e := a.Edge()
	fetch := a.withFull(nil)
	for _, tc := range []struct {
		level int
		n     int64
		width int
		ok    bool
	}{
		{0, 0, 256, true}, {0, 0, 10, true}, {0, 1, 44, true}, {0, 1, 45, false}, {1, 0, 1, true}, {1, 0, 2, false}, {9, 0, 1, false},
	} {
		b, err := e.TileData(tc.level, tc.n, tc.width, fetch)
		if (err == nil) != tc.ok || err == nil && len(b) != 32*tc.width {
			t.Errorf("TileData(%d, %d, %d) = %d bytes, %v; want ok %v", tc.level, tc.n, tc.width, len(b), err, tc.ok)
		}
	}
}

// TestRFC6962Vectors checks the roots of Certificate Transparency's reference
// tree.
func TestRFC6962Vectors(t *testing.T) {
	a := Edge{}.Append()
	for i, leaf := range testonly.LeafInputs() {
		a.Add(ledger.LeafHash(leaf))
		root, err := a.Root(nil)
		if want := testonly.RootHashes()[i+1]; err != nil || !bytes.Equal(root[:], want) {
			t.Errorf("root of %d leaves = %v, %v; want %x", i+1, root, err, want)
		}
	}
}
