package namecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/mirror"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

const exportUsage = `DIR [-config FILE] [-set KEY=VALUE] [-json]

writes a backup: the ledger as static files that any web server can serve
DIR then holds checkpoint, vkeys and tile/… as a mirror reads them (C2SP
tlog-tiles). An export into the same DIR adds what is new. The key that signs
the ledger is not part of it.
`

// exportAnswer tells what a copy holds.
type exportAnswer struct {
	From string `json:"from,omitempty"`
	Dir  string `json:"dir,omitempty"`
	Size int64  `json:"size"`
}

func ledgerExport(ctx context.Context, e *env) error {
	f := newFlags()
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	dir := args[0]
	return f.withReader(ctx, func(_ nameserver.Config, _ store.Store, reg *registry.Registry) error {
		if err := notAhead(dir, reg.Status()); err != nil {
			return err
		}
		c, err := mirror.Export(ctx, reg, dir)
		if err != nil {
			return err
		}
		return f.show(e, exportAnswer{Dir: dir, Size: c.Size}, func(w io.Writer) { fmt.Fprintf(w, "%d entries are in %s\n", c.Size, dir) })
	})
}

// notAhead refuses to replace a backup by a shorter ledger or another's.
func notAhead(dir string, st registry.Status) error {
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
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
	if c.Size > st.Size || c.Origin != st.Origin {
		return fmt.Errorf("%s holds %s with %d entries, this ledger is %s with %d: restore from it instead", dir, c.Origin, c.Size, st.Origin, st.Size)
	}
	return nil
}

// sourceFlags are those of commands that read a ledger from elsewhere.
type sourceFlags struct {
	*flags
	vkeys []string
	token string
}

func newSourceFlags() *sourceFlags {
	f := &sourceFlags{flags: newFlags()}
	f.Func("vkey", "", func(s string) error { f.vkeys = append(f.vkeys, s); return nil })
	f.StringVar(&f.token, "token-file", "", "")
	return f
}

// source is a directory made by export, or a name server's URL.
func (f *sourceFlags) source(text string) (mirror.Source, error) {
	if len(f.vkeys) == 0 {
		return nil, fmt.Errorf("%w: -vkey is missing", errUsage)
	}
	if !strings.Contains(text, "://") {
		return mirror.DirSource(text), nil
	}
	token := ""
	if f.token != "" {
		var err error
		if token, err = config.SecretFile(f.token).Read(); err != nil {
			return nil, err
		}
	}
	return nameserver.LedgerAt(text, strings.TrimSpace(token), ""), nil
}

const restoreUsage = `DIR|URL -vkey KEY [-guard DIR|URL]… [-token-file FILE] [-config FILE] [-set KEY=VALUE] [-json]

brings the store, empty or behind, to the state of a backup or mirror
Everything is checked as a mirror checks it. A guard is another backup or
mirror; if one has seen more than the source, nothing is restored, since names
would be given away twice. Stop the server first; it needs its old key file.
`

func ledgerRestore(ctx context.Context, e *env) error {
	f := newSourceFlags()
	var guards []string
	f.Func("guard", "", func(s string) error { guards = append(guards, s); return nil })
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	src, err := f.source(args[0])
	if err != nil {
		return err
	}
	return f.withStore(ctx, func(cfg nameserver.Config, st store.Store) error {
		opt := mirror.RestoreOptions{Store: st, Source: src, VKeys: f.vkeys, Guards: []registry.CheckpointSource{
			registry.PublishedFile(filepath.Join(cfg.StateDir, nameserver.PublishedFile)),
		}}
		if cfg.Policy.Confusables {
			opt.Skeleton = policy.Skeleton
		}
		for _, g := range append(guards, cfg.Ledger.Guards...) {
			s, err := f.source(g)
			if err != nil {
				return err
			}
			opt.Guards = append(opt.Guards, mirror.Guard{Source: s})
		}
		size, err := mirror.Restore(ctx, opt)
		if err != nil {
			return err
		}
		return f.show(e, exportAnswer{From: args[0], Size: size}, func(w io.Writer) { fmt.Fprintf(w, "restored to %d entries\n", size) })
	})
}

const importUsage = `DIR|URL -vkey KEY [-token-file FILE] [-config FILE] [-set KEY=VALUE] [-json]

takes the names of another ledger over into this one, in their order
It is the way on when a ledger's key is lost: a new ledger with a new origin
and key, made by ledger init, and then this. Every registration is verified.
`

// importAnswer tells how many names were taken over.
type importAnswer struct {
	From  string `json:"from"`
	Names int    `json:"names"`
}

func ledgerImport(ctx context.Context, e *env) error {
	f := newSourceFlags()
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	src, err := f.source(args[0])
	if err != nil {
		return err
	}
	a := importAnswer{From: args[0]}
	err = f.withWriter(ctx, func(ctx context.Context, _ nameserver.Config, reg *registry.Registry, _ ledger.SigningKey) error {
		a.Names, err = mirror.Import(ctx, src, f.vkeys, reg)
		return err
	})
	if err != nil {
		return err
	}
	return f.show(e, a, func(w io.Writer) { fmt.Fprintf(w, "%d names taken over from %s\n", a.Names, a.From) })
}

const promoteUsage = `[-config FILE] [-set KEY=VALUE] [-json]

makes a mirror's store the writer's
The configuration is that of the new writer: section follow empty, the log's key
as ledger.key_file. Make sure that the old writer never writes again: two
writers split the ledger for good.
`

func ledgerPromote(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	return f.withStore(ctx, func(cfg nameserver.Config, st store.Store) error {
		key, err := nameserver.ReadKey(cfg)
		if err != nil {
			return err
		}
		if err := registry.Promote(ctx, nameserver.RegistryOptions(cfg, st, key), key); err != nil {
			return noLedger(err)
		}
		return f.show(e, initAnswer{key.Name(), key.VKey(), cfg.KeyPath()}, func(w io.Writer) {
			fmt.Fprintf(w, "this store is the writer's now; start the server\n")
		})
	})
}
