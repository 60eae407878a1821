package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledger/logtree"
	"github.com/jirani/jirani/nameserver/ledger/prefixtree"
)

// Summary is what the verification of a whole log found.
type Summary struct {
	Checkpoint ledger.Checkpoint
	Names      int64
	Keys       int64 // in the map
	VKeys      []string
}

// Verifier replays a log from its first entry in memory, without a store,
// checking every rule. It is used by one goroutine.
type Verifier struct {
	s     *stage
	tiles map[tileKey]*logtree.Tile // above level 0, which no root needs
}

// NewVerifier begins at the empty log.
func NewVerifier(origin string) *Verifier {
	v := &Verifier{tiles: map[tileKey]*logtree.Tile{}}
	v.s = newStage(head{}, origin, prefixtree.New(), func(level int, n int64) (*logtree.Tile, error) {
		if t, ok := v.tiles[tileKey{level, n}]; ok {
			return t, nil
		}
		return nil, ErrNotFound
	})
	return v
}

// Add checks the next entries.
func (v *Verifier) Add(f Feed) error {
	for _, b := range f.Entries {
		if _, err := v.s.add(b); err != nil {
			return err
		}
	}
	for _, t := range v.s.log.Full {
		if t.Level > 0 {
			v.tiles[tileKey{t.Level, t.N}] = t.Tile
		}
	}
	v.s.log.Full = nil
	return nil
}

// Finish compares what was added with the signed checkpoint it leads up to. One
// of the log's keys must be among those known.
func (v *Verifier) Finish(signed []byte, known []string) (Summary, error) {
	root, err := v.s.finish()
	if err != nil {
		return Summary{}, err
	}
	c, err := openBy(signed, v.s.origin, v.s.vkeys)
	if err != nil {
		return Summary{}, err
	}
	if c.Size != v.s.size() || c.Root != root {
		return Summary{}, fmt.Errorf("%w: checkpoint says %d %v, entries give %d %v", ErrInconsistent, c.Size, c.Root, v.s.size(), root)
	}
	if !slices.ContainsFunc(v.s.vkeys, func(k string) bool {
		return slices.ContainsFunc(known, func(w string) bool { return strings.TrimSpace(w) == k })
	}) {
		return Summary{}, fmt.Errorf("%w: none of the log's keys is known", ledger.ErrCheckpoint)
	}
	return Summary{Checkpoint: c, Names: v.s.names, Keys: v.s.tx.Len(), VKeys: v.s.vkeys}, nil
}
