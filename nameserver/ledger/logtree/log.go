// Package logtree keeps the hashes of an append-only Merkle log: the right edge
// in memory, full tiles fetched on demand and cached by the caller.
//
// A tile here is held with the hashes inside it, 510 in all, so that a proof
// costs look-ups only. The edge has one tile per level under construction; an
// [Appender] writes behind the committed size, where no reader looks, and its
// work counts only from [Appender.Commit] on.
package logtree

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/nameserver/ledger"
)

// levels is the number of tile levels: 2^64 entries.
const levels = 8

// Tile is a hash tile with its inner nodes: 256 hashes of its lowest level,
// then 128, and so on to 2.
type Tile struct {
	h [2*ledger.TileWidth - 2]ledger.Hash
}

// TileBytes is what a Tile takes in memory.
const TileBytes = (2*ledger.TileWidth - 2) * tlog.HashSize

func offset(r int) int { return 2*ledger.TileWidth - 2*ledger.TileWidth>>r }

// set writes the hash at position i of the lowest level and every node that it
// completes. It returns the tile's root when the tile became full.
func (t *Tile) set(i int, h ledger.Hash) (root ledger.Hash, full bool) {
	t.h[i] = h
	for r := 0; i&1 == 1; r++ {
		h = tlog.NodeHash(t.h[offset(r)+i-1], h)
		if i >>= 1; r == ledger.TileHeight-1 {
			return h, true
		}
		t.h[offset(r+1)+i] = h
	}
	return ledger.Hash{}, false
}

// ExpandTile makes a Tile of a full tile's bytes.
func ExpandTile(data []byte) (*Tile, error) {
	hashes, err := ledger.ParseTile(data, ledger.TileWidth)
	if err != nil {
		return nil, err
	}
	t := new(Tile)
	for i, h := range hashes {
		t.set(i, h)
	}
	return t, nil
}

// Bytes returns the first width hashes of the lowest level.
func (t *Tile) Bytes(width int) []byte {
	out := make([]byte, 0, width*tlog.HashSize)
	for i := range width {
		out = append(out, t.h[i][:]...)
	}
	return out
}

// Fetch returns a full tile of a level.
type Fetch func(level int, n int64) (*Tile, error)

// Edge is a log of some size: its tiles under construction. It is a value; a
// copy stays valid while the log grows.
type Edge struct {
	size  int64
	tiles [levels]*Tile // nil where the level has none begun
}

// Size returns the number of entries.
func (e Edge) Size() int64 { return e.size }

// Reader returns the hashes of the log, with full tiles from fetch.
func (e Edge) Reader(fetch Fetch) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			l, r := level/ledger.TileHeight, level%ledger.TileHeight
			num, pos := n>>(ledger.TileHeight-r), int(n&(ledger.TileWidth>>r-1))
			t, err := e.tile(l, num, fetch)
			if err != nil {
				return nil, err
			}
			out[i] = t.h[offset(r)+pos]
		}
		return out, nil
	})
}

func (e Edge) tile(level int, n int64, fetch Fetch) (*Tile, error) {
	if n == e.size>>(ledger.TileHeight*(level+1)) && e.tiles[level] != nil {
		return e.tiles[level], nil
	}
	return fetch(level, n)
}

// TileData returns the bytes of the tile of this width, or an error if the log
// does not have it.
func (e Edge) TileData(level int, n int64, width int, fetch Fetch) ([]byte, error) {
	if level < 0 || level >= levels || width > ledger.PartialWidth(level, n, e.size) {
		return nil, fmt.Errorf("logtree: no tile %d/%d of width %d in a log of %d", level, n, width, e.size)
	}
	t, err := e.tile(level, n, fetch)
	if err != nil {
		return nil, err
	}
	return t.Bytes(width), nil
}

// FullTile is a tile that became full.
type FullTile struct {
	Level int
	N     int64
	Tile  *Tile
}

// Appender extends a log. Only one may be at work on the edges that descend
// from one another.
type Appender struct {
	edge Edge
	Full []FullTile // tiles that became full, in order
}

// Append begins at e, which stays as it is.
func (e Edge) Append() *Appender { return &Appender{edge: e} }

// Add appends a leaf hash.
func (a *Appender) Add(h ledger.Hash) {
	e := &a.edge
	n := e.size
	e.size++
	for level := 0; ; level++ {
		if e.tiles[level] == nil {
			e.tiles[level] = new(Tile)
		}
		root, full := e.tiles[level].set(int(n%ledger.TileWidth), h)
		if !full {
			return
		}
		a.Full = append(a.Full, FullTile{level, n / ledger.TileWidth, e.tiles[level]})
		e.tiles[level] = nil
		h, n = root, n/ledger.TileWidth
	}
}

// Size returns the number of entries with what was added.
func (a *Appender) Size() int64 { return a.edge.size }

// Edge returns the log with what was added. It may be used beside the one the
// Appender began at; further work must begin at one of the two, not at both.
func (a *Appender) Edge() Edge { return a.edge }

// Root returns the root hash with what was added.
func (a *Appender) Root(fetch Fetch) (ledger.Hash, error) {
	return tlog.TreeHash(a.edge.size, a.edge.Reader(a.withFull(fetch)))
}

// withFull serves the tiles that became full in this Appender, which the
// store has not yet.
func (a *Appender) withFull(fetch Fetch) Fetch {
	return func(level int, n int64) (*Tile, error) {
		for i := len(a.Full) - 1; i >= 0; i-- {
			if f := a.Full[i]; f.Level == level && f.N == n {
				return f.Tile, nil
			}
		}
		return fetch(level, n)
	}
}
