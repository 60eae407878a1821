package registry

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// ErrRolledBack says that somebody saw a longer or different log than the
// store has: a restored backup, a failover that lost commits. Signing on would
// give acknowledged names away a second time.
var ErrRolledBack = errors.New("registry: store is behind a published checkpoint")

// maySign lets the sequencer sign on the state st. Before the first signature
// it asks every guard. The caller holds r.mu.
func (r *Registry) maySign(ctx context.Context, st store.State) error {
	if r.frozen() {
		return ErrReadOnly
	}
	if st.VKey != r.key.VKey() {
		return r.freeze(fmt.Errorf("%w: the key in force is %s, not this server's", ErrReadOnly, st.VKey))
	}
	if st.Size != st.PubSize {
		return r.freeze(fmt.Errorf("%w: the store is a mirror's, stopped between checkpoints; promote it", ErrReadOnly))
	}
	if r.guarded {
		return nil
	}
	if err := r.guard(ctx); err != nil {
		return r.freeze(err)
	}
	r.guarded = true
	return nil
}

// guard compares the published state with what others saw of it.
func (r *Registry) guard(ctx context.Context) error { return r.guardWith(ctx, nil) }

// guardWith does so for the published state with ahead on top, if not nil.
func (r *Registry) guardWith(ctx context.Context, ahead *stage) error {
	guards := r.opt.Guards
	if r.opt.Published != "" {
		guards = append(guards[:len(guards):len(guards)], PublishedFile(r.opt.Published))
	}
	for _, g := range guards {
		if sg, ok := g.(SizeGuard); ok {
			if err := r.compareSize(ctx, g.Name(), sg); err != nil {
				return err
			}
			continue
		}
		signed, err := g.LastCheckpoint(ctx)
		if err != nil {
			r.log.Warn("rollback guard cannot be asked", "guard", g.Name(), "err", err)
			continue
		}
		if signed == nil {
			continue
		}
		if err := r.compare(ctx, signed, ahead); err != nil {
			return fmt.Errorf("%w (%s)", err, g.Name())
		}
	}
	return nil
}

func (r *Registry) compareSize(ctx context.Context, name string, g SizeGuard) error {
	v := r.view.Load()
	if v == nil {
		return nil
	}
	seen, err := g.SeenSize(ctx, v.note, v.checkpoint.Size)
	if err != nil {
		r.log.Warn("rollback guard cannot be asked", "guard", name, "err", err)
		return nil
	}
	if seen > v.checkpoint.Size {
		return fmt.Errorf("%w: %d entries here, %d signed by %s", ErrRolledBack, v.checkpoint.Size, seen, name)
	}
	return nil
}

// compare checks that a checkpoint once published is a prefix of this log.
func (r *Registry) compare(ctx context.Context, signed []byte, ahead *stage) error {
	h, fetch := r.head, r.fetchTile(ctx)
	if ahead != nil {
		h, fetch = ahead.result(), ahead.fetch
	}
	ring, err := ledger.KeyRing(h.vkeys...)
	if err != nil {
		return err
	}
	c, _, err := ledger.OpenCheckpoint(signed, r.origin, ring)
	if err != nil {
		return fmt.Errorf("%w: its checkpoint is not signed by a key of this log: %w", ErrRolledBack, err)
	}
	if size := h.edge.Size(); c.Size > size {
		return fmt.Errorf("%w: %d entries here, %d there", ErrRolledBack, size, c.Size)
	}
	root, err := tlog.TreeHash(c.Size, h.edge.Reader(fetch))
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("%w: another log of size %d was published", ErrRolledBack, c.Size)
	}
	return nil
}

// PublishedFile is the guard that reads the file written by the registry.
type PublishedFile string

// Name implements CheckpointSource.
func (f PublishedFile) Name() string { return string(f) }

// LastCheckpoint implements CheckpointSource.
func (f PublishedFile) LastCheckpoint(context.Context) ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// write replaces the file as a whole; a crash leaves the old or the new.
func (f PublishedFile) write(signed []byte) error {
	return durable.WriteFile(string(f), signed, 0o644)
}
