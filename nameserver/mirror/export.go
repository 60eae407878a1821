package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// Export writes the published log as files under dir: checkpoint, vkeys, tiles,
// entry and evidence bundles, in the layout any web server can serve and
// [DirSource] reads. Full tiles that are there already are kept, so a repeated
// export writes only what is new; the checkpoint comes last.
func Export(ctx context.Context, r registry.Reader, dir string) (ledger.Checkpoint, error) {
	signed, err := r.Checkpoint(ctx)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	c, err := ledger.ParseCheckpoint(text + "\n")
	if err != nil {
		return c, err
	}
	for level := 0; c.Size>>(ledger.TileHeight*level) > 0; level++ {
		for n := int64(0); ledger.PartialWidth(level, n, c.Size) > 0; n++ {
			ids := []ledger.TileID{{Level: level, N: n}}
			if level == 0 {
				ids = append(ids, ledger.TileID{Resource: ledger.ResourceEntries, N: n}, ledger.TileID{Resource: ledger.ResourceEvidence, N: n})
			}
			for _, id := range ids {
				id.Width = ledger.PartialWidth(level, n, c.Size)
				if err := exportOne(ctx, r, dir, id); err != nil {
					return c, err
				}
			}
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, "vkeys"), []byte(strings.Join(r.VKeys(), "\n")+"\n"), 0o644); err != nil {
		return c, err
	}
	return c, durable.WriteFile(filepath.Join(dir, "checkpoint"), signed, 0o644)
}

func exportOne(ctx context.Context, r registry.Reader, dir string, id ledger.TileID) error {
	path := filepath.Join(dir, filepath.FromSlash(id.Path()))
	if _, err := os.Stat(path); err == nil {
		return nil // of a width, and so never another content
	}
	data, err := r.Resource(ctx, id)
	if err != nil {
		return fmt.Errorf("mirror: export %s: %w", id.Path(), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("mirror: export: %w", err)
	}
	// A crash must not leave half a tile under its name; the sync is left to
	// the checkpoint's, without which the export is not one.
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("mirror: export: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("mirror: export: %w", err)
	}
	return nil
}

// RestoreOptions says what a restore works on.
type RestoreOptions struct {
	Store  store.Store
	Source Source
	VKeys  []string // as for Options
	// Guards are mirrors and files that must not be ahead of the source.
	Guards   []registry.CheckpointSource
	Skeleton func(key string) string
	// SkipSignatures as for Options.
	SkipSignatures bool
}

// ErrBehind says that a restore would lose names that somebody has seen
// published: a guard is ahead of the source. Restore from the guard.
var ErrBehind = errors.New("mirror: source is behind a published checkpoint")

// Restore brings a store, empty or behind, to the source's checkpoint, with
// every check a mirror makes, and returns the new size. A writer is opened on
// the store afterwards with the log's key.
func Restore(ctx context.Context, opt RestoreOptions) (int64, error) {
	f, r, err := openTarget(ctx, opt)
	if err != nil {
		return 0, err
	}
	for _, g := range opt.Guards {
		if err := notAhead(ctx, g, f, opt.Source); err != nil {
			return r.Status().Size, err
		}
	}
	if err := f.Step(ctx, false); err != nil {
		return r.Status().Size, err
	}
	return r.Status().Size, nil
}

func openTarget(ctx context.Context, opt RestoreOptions) (*Follower, *registry.Registry, error) {
	f, err := New(Options{Source: opt.Source, VKeys: opt.VKeys, SkipSignatures: opt.SkipSignatures})
	if err != nil {
		return nil, nil, err
	}
	if err := registry.CreateMirror(ctx, opt.Store, f.origin); err != nil && !errors.Is(err, store.ErrExists) {
		return nil, nil, err
	}
	f.opt.Registry, err = registry.Open(ctx, registry.Options{Store: opt.Store, Skeleton: opt.Skeleton})
	return f, f.opt.Registry, err
}

// notAhead compares a guard's checkpoint with the source's.
func notAhead(ctx context.Context, g registry.CheckpointSource, f *Follower, src Source) error {
	seen, err := g.LastCheckpoint(ctx)
	if err != nil {
		return fmt.Errorf("mirror: guard %s: %w", g.Name(), err)
	}
	if seen == nil {
		return nil
	}
	signed, err := src.Get(ctx, "checkpoint", ledger.MaxCheckpoint)
	if err != nil {
		return err
	}
	there, _, err := f.open(ctx, seen)
	if err != nil {
		return fmt.Errorf("mirror: guard %s: %w", g.Name(), err)
	}
	here, _, err := f.open(ctx, signed)
	if err != nil {
		return err
	}
	if there.Size > here.Size {
		return fmt.Errorf("%w: %d entries in %s, %d in %s", ErrBehind, here.Size, src, there.Size, g.Name())
	}
	return nil
}

// Import takes the names of another log over into a new one, whose key is
// another, in their order; it is the way on after the loss of a key. Every
// registration is verified, and those already there are left alone.
func Import(ctx context.Context, src Source, vkeys []string, into *registry.Registry) (int, error) {
	f, err := New(Options{Registry: into, Source: src, VKeys: vkeys})
	if err != nil {
		return 0, err
	}
	signed, err := src.Get(ctx, "checkpoint", ledger.MaxCheckpoint)
	if err != nil {
		return 0, err
	}
	c, _, err := ledger.OpenCheckpoint(signed, f.origin, f.ring)
	if err != nil {
		return 0, err
	}
	if err := into.RecordImport(ctx, ledger.Import{Origin: c.Origin, Size: uint64(c.Size), Root: c.Root}); err != nil {
		return 0, err
	}
	fetch, names := newFetcher(src, c, true), 0
	for at := int64(0); at < c.Size; {
		feed, err := fetch.chunk(ctx, at)
		if err != nil {
			return names, err
		}
		n, err := importChunk(ctx, into, feed)
		if names += n; err != nil {
			return names, err
		}
		at += int64(len(feed.Entries))
	}
	return names, nil
}

func importChunk(ctx context.Context, into *registry.Registry, feed registry.Feed) (int, error) {
	n := 0
	for i, data := range feed.Entries {
		e, err := ledger.ParseEntry(data)
		if err != nil {
			return n, err
		}
		switch e := e.(type) {
		case *ledger.Register:
			ev := feed.Evidence[i]
			_, err = into.RegisterVerified(ctx, ledger.Registration{
				Name: e.Name, Key: e.Key, Address: e.Address, Owner: e.Owner,
				PublicKey: e.PublicKeyText(ev.PublicKey), Signature: ev.Signature,
			})
			n++
		case *ledger.Tombstone:
			err = into.Burn(ctx, e.Key, e.Reason)
		}
		if err != nil {
			return n, fmt.Errorf("mirror: import entry: %w", err)
		}
	}
	return n, nil
}

// Verify checks a whole source as a mirror would, keeping nothing but memory
// of the map: the log's root, every map root, every registration.
func Verify(ctx context.Context, src Source, vkeys []string) (registry.Summary, error) {
	f, err := New(Options{Source: src, VKeys: vkeys})
	if err != nil {
		return registry.Summary{}, err
	}
	signed, err := src.Get(ctx, "checkpoint", ledger.MaxCheckpoint)
	if err != nil {
		return registry.Summary{}, err
	}
	c, _, err := f.open(ctx, signed)
	if err != nil {
		return registry.Summary{}, err
	}
	v := registry.NewVerifier(f.origin)
	fetch := newFetcher(src, c, true)
	for at := int64(0); at < c.Size; {
		feed, err := fetch.chunk(ctx, at)
		if err != nil {
			return registry.Summary{}, err
		}
		if err := v.Add(feed); err != nil {
			return registry.Summary{}, err
		}
		at += int64(len(feed.Entries))
	}
	return v.Finish(signed, vkeys)
}
