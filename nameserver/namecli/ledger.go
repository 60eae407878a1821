package namecli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

const initUsage = `[-config FILE] [-set KEY=VALUE] [-json]

makes the key that signs the ledger, and an empty ledger
An existing key is used; an existing ledger is left alone and is an error.
Replicas share the key file: run this once.
`

// initAnswer is what a new ledger's friends must write down.
type initAnswer struct {
	Origin  string `json:"origin"`
	VKey    string `json:"vkey"`
	KeyFile string `json:"key_file"`
}

func ledgerInit(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	cfg, err := f.load()
	if err != nil {
		return err
	}
	if err := nameserver.Init(ctx, cfg, time.Now()); err != nil {
		if errors.Is(err, store.ErrExists) {
			return service.Hint(err, "jirani-nameserver ledger stat shows it")
		}
		return err
	}
	key, err := nameserver.ReadKey(cfg)
	if err != nil {
		return err
	}
	a := initAnswer{key.Name(), key.VKey(), cfg.KeyPath()}
	return f.show(e, a, func(w io.Writer) {
		fmt.Fprintf(w, "ledger %s made\nkey file      %s (keep a copy apart: without it this ledger cannot go on)\nverifier key  %s\n", a.Origin, a.KeyFile, a.VKey)
	})
}

const statUsage = `[-config FILE] [-set KEY=VALUE] [-json]

shows how long the ledger is and which key signs it
All of it is read, and its root and map are computed and compared.
`

// statAnswer describes a ledger.
type statAnswer struct {
	Origin     string    `json:"origin"`
	VKey       string    `json:"vkey"`
	Size       int64     `json:"size"`
	Names      int64     `json:"names"`
	Root       string    `json:"root"`
	ChangedAt  time.Time `json:"changed_at"`
	Checkpoint string    `json:"checkpoint"`
}

func statOf(ctx context.Context, reg *registry.Registry) (statAnswer, error) {
	note, err := reg.Checkpoint(ctx)
	if err != nil {
		return statAnswer{}, err
	}
	c, err := ledger.ParseCheckpoint(string(note))
	if err != nil {
		return statAnswer{}, err
	}
	st := reg.Status()
	return statAnswer{st.Origin, reg.VKeys()[0], st.Size, st.Names, c.Root.String(), st.CheckpointAt, string(note)}, nil
}

func (a statAnswer) text(w io.Writer) {
	fmt.Fprintf(w, "origin        %s\nverifier key  %s\nentries       %d\nnames         %d\nroot          %s\nchanged       %s\n",
		a.Origin, a.VKey, a.Size, a.Names, a.Root, a.ChangedAt.Format(time.RFC3339))
}

func ledgerStat(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	return f.withReader(ctx, func(_ nameserver.Config, _ store.Store, reg *registry.Registry) error {
		a, err := statOf(ctx, reg)
		if err != nil {
			return err
		}
		return f.show(e, a, a.text)
	})
}

const rotateUsage = `[-config FILE] [-set KEY=VALUE] [-json]

hands the ledger over to a new key
Stop every replica first: one that still has the old key refuses to write. The
old key is kept beside the new one, as KEYFILE.old, until you delete it.
`

// rotateAnswer tells the keys before and after.
type rotateAnswer struct {
	Old string `json:"old_vkey"`
	New string `json:"vkey"`
}

func ledgerRotate(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	var a rotateAnswer
	err := f.withWriter(ctx, func(ctx context.Context, cfg nameserver.Config, reg *registry.Registry, old ledger.SigningKey) error {
		next, err := ledger.GenerateSigningKey(old.Name())
		if err != nil {
			return err
		}
		// The new key is on disk before the log names it, and the old one as long
		// as the log may still need it: a crash in between loses neither.
		path := cfg.KeyPath()
		if err := durable.WriteFile(path+".next", []byte(next.Encode()+"\n"), 0o600); err != nil {
			return err
		}
		if err := reg.RotateKey(ctx, next); err != nil {
			return service.Hint(err, "if the log names the key in %s.next by now (ledger stat tells), rename that file to %s", path, path)
		}
		if err := durable.WriteFile(path+".old", []byte(old.Encode()+"\n"), 0o600); err != nil {
			return err
		}
		a = rotateAnswer{old.VKey(), next.VKey()}
		return os.Rename(path+".next", path)
	})
	if err != nil {
		return err
	}
	return f.show(e, a, func(w io.Writer) {
		fmt.Fprintf(w, "the ledger is signed by a new key\nold  %s\nnew  %s\n", a.Old, a.New)
	})
}

const witnessUsage = `-name NAME FILE [-json]

makes a witness key
NAME is what the witness is known by, such as witness.example.org. The key
goes to FILE, for ledger.witness.key_file; the verifier key is printed, for the
ledger.witnesses of those who want to be witnessed.
`

func witnessInit(_ context.Context, e *env) error {
	f := newRemoteFlags()
	name := f.String("name", "", "")
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	if _, err := os.Stat(args[0]); err == nil {
		return fmt.Errorf("%s exists; a key is never overwritten", args[0])
	}
	key, err := ledger.GenerateSigningKey(*name)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(args[0], []byte(key.Encode()+"\n"), 0o600); err != nil {
		return err
	}
	a := initAnswer{key.Name(), key.VKey(), args[0]}
	return f.show(e, a, func(w io.Writer) {
		fmt.Fprintf(w, "witness key made\nkey file      %s\nverifier key  %s\n", a.KeyFile, a.VKey)
	})
}
