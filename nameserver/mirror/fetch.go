package mirror

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
)

// chunkBundles is how many bundles are fetched, checked and stored together:
// 4,096 entries, some 5 MiB with their evidence.
const chunkBundles = 16

// fetcher gets entries of one checkpoint and authenticates them by its tiles
// before anything is stored.
type fetcher struct {
	src   Source
	tree  tlog.Tree
	tiles *tileReader
	// signatures says whether every registration's signature is verified.
	signatures bool
}

func newFetcher(src Source, c ledger.Checkpoint, signatures bool) *fetcher {
	return &fetcher{src: src, tree: tlog.Tree{N: c.Size, Hash: c.Root}, tiles: &tileReader{src: src, kept: map[tlog.Tile][]byte{}}, signatures: signatures}
}

// chunk returns the entries from first on, up to the end of a chunk of bundles
// or of the log.
func (f *fetcher) chunk(ctx context.Context, first int64) (registry.Feed, error) {
	f.tiles.ctx = ctx
	bundle := first / ledger.TileWidth
	last := min((f.tree.N+ledger.TileWidth-1)/ledger.TileWidth, bundle+chunkBundles)
	parts := make([]registry.Feed, last-bundle)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range parts {
		g.Go(func() (err error) {
			parts[i], err = f.bundle(gctx, bundle+int64(i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return registry.Feed{}, err
	}
	var feed registry.Feed
	for i, p := range parts {
		if err := f.authenticate(bundle+int64(i), p.Entries); err != nil {
			return registry.Feed{}, err
		}
		if i == 0 {
			skip := first % ledger.TileWidth
			p.Entries, p.Evidence = p.Entries[skip:], p.Evidence[skip:]
		}
		feed.Entries, feed.Evidence = append(feed.Entries, p.Entries...), append(feed.Evidence, p.Evidence...)
	}
	return feed, f.checkEvidence(ctx, first, feed)
}

func (f *fetcher) bundle(ctx context.Context, n int64) (feed registry.Feed, err error) {
	width := ledger.PartialWidth(0, n, f.tree.N)
	id := ledger.TileID{Resource: ledger.ResourceEntries, N: n, Width: width}
	b, err := f.src.Get(ctx, id.Path(), ledger.MaxEntryBundle)
	if err != nil {
		return feed, err
	}
	if feed.Entries, err = ledger.ParseEntryBundle(b, width); err != nil {
		return feed, err
	}
	id.Resource = ledger.ResourceEvidence
	if b, err = f.src.Get(ctx, id.Path(), ledger.MaxEvidenceBundle); err != nil {
		return feed, err
	}
	feed.Evidence, err = ledger.ParseEvidenceBundle(b, width)
	return feed, err
}

// authenticate compares the hash of a bundle with the log's: for a full one
// the root of its tile, else each leaf.
func (f *fetcher) authenticate(n int64, entries [][]byte) error {
	hashes := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		hashes[i] = ledger.LeafHash(e)
	}
	var at []int64
	if len(hashes) == ledger.TileWidth {
		for width := len(hashes); width > 1; width /= 2 {
			for i := range width / 2 {
				hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
			}
		}
		hashes, at = hashes[:1], []int64{tlog.StoredHashIndex(ledger.TileHeight, n)}
	} else {
		for i := range hashes {
			at = append(at, tlog.StoredHashIndex(0, n*ledger.TileWidth+int64(i)))
		}
	}
	want, err := tlog.TileHashReader(f.tree, f.tiles).ReadHashes(at)
	if err != nil {
		return fmt.Errorf("mirror: tiles of bundle %d: %w", n, err)
	}
	for i := range want {
		if want[i] != hashes[i] {
			return fmt.Errorf("%w: bundle %d is not what the checkpoint signs", ledger.ErrProof, n)
		}
	}
	return nil
}

// checkEvidence verifies that every registration was asked for by its account.
func (f *fetcher) checkEvidence(ctx context.Context, first int64, feed registry.Feed) error {
	g, _ := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		g.Go(func() error {
			for i := w; i < len(feed.Entries); i += workers {
				if err := f.checkOne(feed.Entries[i], feed.Evidence[i]); err != nil {
					return fmt.Errorf("mirror: entry %d: %w", first+int64(i), err)
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (f *fetcher) checkOne(data []byte, ev ledger.Evidence) error {
	e, err := ledger.ParseEntry(data)
	if err != nil {
		return err
	}
	reg, ok := e.(*ledger.Register)
	switch {
	case !ok:
		if len(ev.PublicKey)+len(ev.Signature) > 0 {
			return fmt.Errorf("%w: evidence of a %v", ledger.ErrProof, e.Kind())
		}
		return nil
	case f.signatures:
		return reg.Verify(ev)
	}
	return reg.Bound(ev)
}

// tileReader gives tlog the tiles of the source, which it authenticates.
type tileReader struct {
	src Source
	ctx context.Context // of the chunk under way; tlog's interface has no room for it

	mu   sync.Mutex
	kept map[tlog.Tile][]byte // authenticated
}

// maxKept bounds the tiles kept: paths to the root are few and shared.
const maxKept = 64

// Height implements tlog.TileReader.
func (r *tileReader) Height() int { return ledger.TileHeight }

// ReadTiles implements tlog.TileReader.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		r.mu.Lock()
		data, ok := r.kept[t]
		r.mu.Unlock()
		if !ok {
			id := ledger.TileID{Level: t.L, N: t.N, Width: t.W}
			var err error
			if data, err = r.src.Get(r.ctx, id.Path(), int64(t.W)*tlog.HashSize); err != nil {
				return nil, err
			}
			if len(data) != t.W*tlog.HashSize {
				return nil, fmt.Errorf("%w: tile %s of %d bytes", ledger.ErrMalformed, id.Path(), len(data))
			}
		}
		out[i] = data
	}
	return out, nil
}

// SaveTiles implements tlog.TileReader.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) > maxKept {
		clear(r.kept)
	}
	for i, t := range tiles {
		r.kept[t] = data[i]
	}
}
