package namecli

import (
	"context"
	"fmt"
	"io"

	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

const reserveUsage = `NAME [-note TEXT] [-remove] | -list   [-config FILE] [-set KEY=VALUE] [-json]

keeps a name back, or gives it free again with -remove
Nothing is written to the ledger. A name that is registered already stays so.
`

// reservationAnswer shows a reserved name.
type reservationAnswer struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
}

func reserve(ctx context.Context, e *env) error {
	f := newFlags()
	note, remove, list := f.String("note", "", ""), f.Bool("remove", false, ""), f.Bool("list", false, "")
	want := 1
	for _, a := range e.args {
		if a == "-list" || a == "--list" {
			want = 0
		}
	}
	args, err := f.parse(e, want)
	if err != nil {
		return err
	}
	return f.withStore(ctx, func(cfg nameserver.Config, st store.Store) error {
		if *list {
			return listReservations(ctx, f, e, st)
		}
		key, err := nameKey(cfg, args[0])
		if err != nil {
			return err
		}
		verb := "reserved"
		if *remove {
			verb, err = "free again", st.Unreserve(ctx, key)
		} else {
			err = st.Reserve(ctx, store.Reservation{Key: key, Note: *note})
		}
		if err != nil {
			return err
		}
		return f.show(e, reservationAnswer{key, *note}, func(w io.Writer) { fmt.Fprintf(w, "%s is %s\n", key, verb) })
	})
}

func listReservations(ctx context.Context, f *flags, e *env, st store.Store) error {
	all, err := st.ListReservations(ctx)
	if err != nil {
		return err
	}
	list := make([]reservationAnswer, len(all))
	for i, r := range all {
		list[i] = reservationAnswer{r.Key, r.Note}
	}
	return f.show(e, list, func(w io.Writer) {
		for _, r := range list {
			fmt.Fprintf(w, "%s\t%s\n", r.Name, r.Note)
		}
	})
}

// nameKey returns the lookup form of a name by the server's own rule.
func nameKey(cfg nameserver.Config, name string) (string, error) {
	rule := policy.Names{Unicode: cfg.Policy.Unicode, MinLength: cfg.Policy.MinLength, MaxLength: cfg.Policy.MaxLength}
	return rule.Key(name)
}

const blockUsage = `NAME -reason TEXT [-config FILE] [-set KEY=VALUE] [-json]

burns a name for ever: it is not found, and nobody can register it
The ledger shows the name and the reason to everybody who reads it, and this
cannot be undone. Clients that looked the name up before keep their answer.
`

// blockAnswer shows a burnt name.
type blockAnswer struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func block(ctx context.Context, e *env) error {
	f := newFlags()
	why := f.String("reason", "", "")
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	if *why == "" {
		return fmt.Errorf("%w: -reason is missing", errUsage)
	}
	var a blockAnswer
	err = f.withWriter(ctx, func(ctx context.Context, cfg nameserver.Config, reg *registry.Registry, _ ledger.SigningKey) error {
		key, err := nameKey(cfg, args[0])
		if err != nil {
			return err
		}
		a = blockAnswer{key, *why}
		return reg.Burn(ctx, key, *why)
	})
	if err != nil {
		return err
	}
	return f.show(e, a, func(w io.Writer) { fmt.Fprintf(w, "%s is burnt: %s\n", a.Name, a.Reason) })
}
