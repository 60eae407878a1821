package namecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

const exportUsage = `DIR [-config FILE] [-set KEY=VALUE] [-json]

writes a backup: the ledger as static files that any web server can serve
DIR then holds checkpoint, vkeys and tile/… as a mirror reads them (C2SP
tlog-tiles). An export into the same DIR adds what is new. The key that signs
the ledger is not part of it.
`

// exportAnswer tells how much was written.
type exportAnswer struct {
	Dir   string `json:"dir"`
	Size  int64  `json:"size"`
	Files int    `json:"files"` // written now
}

func ledgerExport(ctx context.Context, e *env) error {
	f := newFlags()
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	return f.withReader(ctx, func(_ nameserver.Config, _ store.Store, reg *registry.Registry) error {
		x := exporter{dir: args[0], reg: reg}
		if err := x.export(ctx); err != nil {
			return err
		}
		a := exportAnswer{x.dir, x.size, x.files}
		return f.show(e, a, func(w io.Writer) {
			fmt.Fprintf(w, "%d entries are in %s, %d files written now\n", a.Size, a.Dir, a.Files)
		})
	})
}

// exporter writes one version of a log to a directory.
type exporter struct {
	dir   string
	reg   *registry.Registry
	size  int64
	files int
}

// export writes the tiles first and the checkpoint last: whatever a checkpoint
// in the directory promises is there.
func (x *exporter) export(ctx context.Context) error {
	note, err := x.reg.Checkpoint(ctx)
	if err != nil {
		return err
	}
	c, err := ledger.ParseCheckpoint(string(note))
	if err != nil {
		return err
	}
	x.size = c.Size
	if err := x.notAhead(); err != nil {
		return err
	}
	for level := 0; x.size>>(ledger.TileHeight*level) > 0; level++ {
		if err := x.level(ctx, ledger.ResourceTile, level); err != nil {
			return err
		}
	}
	for _, r := range []ledger.Resource{ledger.ResourceEntries, ledger.ResourceEvidence} {
		if err := x.level(ctx, r, 0); err != nil {
			return err
		}
	}
	if err := x.write("vkeys", []byte(strings.Join(x.reg.VKeys(), "\n")+"\n")); err != nil {
		return err
	}
	return x.write("checkpoint", note)
}

// notAhead refuses to replace a backup by a shorter ledger.
func (x *exporter) notAhead() error {
	old, err := os.ReadFile(filepath.Join(x.dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := ledger.ParseCheckpoint(string(old))
	if err != nil {
		return err
	}
	if c.Size > x.size || c.Origin != x.reg.Status().Origin {
		return fmt.Errorf("%s holds %q with %d entries, this ledger has %d: restore from it instead", x.dir, c.Origin, c.Size, x.size)
	}
	return nil
}

// level writes every tile or bundle of one level.
func (x *exporter) level(ctx context.Context, r ledger.Resource, level int) error {
	for n := int64(0); ; n++ {
		id := ledger.TileID{Resource: r, Level: level, N: n, Width: ledger.PartialWidth(level, n, x.size)}
		if id.Width == 0 {
			return nil
		}
		if _, err := os.Stat(filepath.Join(x.dir, id.Path())); err == nil && id.Width == ledger.TileWidth {
			continue // written before; full ones never change
		}
		data, err := x.reg.Resource(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id.Path(), err)
		}
		if err := x.write(id.Path(), data); err != nil {
			return err
		}
	}
}

func (x *exporter) write(path string, data []byte) error {
	path = filepath.Join(x.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	x.files++
	return durable.WriteFile(path, data, 0o644)
}
