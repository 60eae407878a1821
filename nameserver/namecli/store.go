package namecli

import (
	"context"
	"errors"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// withStore opens the store that the configuration names for the time of f.
func (f *flags) withStore(ctx context.Context, do func(nameserver.Config, store.Store) error) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	st, err := nameserver.OpenStore(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(do(cfg, st), st.Close())
}

// withReader opens the ledger for reading, which reads and checks all of it.
func (f *flags) withReader(ctx context.Context, do func(nameserver.Config, store.Store, *registry.Registry) error) error {
	return f.withStore(ctx, func(cfg nameserver.Config, st store.Store) error {
		reg, err := registry.Open(ctx, registry.Options{Store: st})
		if err != nil {
			return noLedger(err)
		}
		return do(cfg, st, reg)
	})
}

// withWriter opens the ledger as one more replica that may write.
func (f *flags) withWriter(ctx context.Context, do func(context.Context, nameserver.Config, *registry.Registry, ledger.SigningKey) error) error {
	return f.withStore(ctx, func(cfg nameserver.Config, st store.Store) error {
		key, err := nameserver.ReadKey(cfg)
		if err != nil {
			return err
		}
		reg, err := registry.Open(ctx, nameserver.RegistryOptions(cfg, st, key))
		if err != nil {
			return noLedger(err)
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- reg.Run(run) }() // ends with stop
		err = do(ctx, cfg, reg, key)
		stop()
		return errors.Join(err, <-done)
	})
}

func noLedger(err error) error {
	if errors.Is(err, store.ErrNoLedger) {
		return service.Hint(err, "run: jirani-nameserver ledger init")
	}
	return err
}
