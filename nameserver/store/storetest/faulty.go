package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// ErrInjected is what a Faulty store's failures are.
var ErrInjected = errors.New("storetest: injected failure")

// Fault says how a call fails.
type Fault int

// The faults.
const (
	NoFault    Fault = iota
	FailBefore       // the call fails and has no effect
	FailAfter        // the call takes effect and reports a failure
)

// Faulty is a store whose calls fail on command. Decide is called with the
// name of each call about to be made ("begin", "claim", "commit", "state",
// "entries", "evidence", "tile"), by several goroutines at once.
type Faulty struct {
	store.Store
	Decide func(call string) Fault
}

func (f *Faulty) do(call string, act func() error) error {
	switch f.Decide(call) {
	case FailBefore:
		return ErrInjected
	case FailAfter:
		return errors.Join(act(), ErrInjected)
	}
	return act()
}

// State implements store.Store.
func (f *Faulty) State(ctx context.Context) (st store.State, err error) {
	err = f.do("state", func() error { st, err = f.Store.State(ctx); return err })
	return st, err
}

// Entries implements store.Store.
func (f *Faulty) Entries(ctx context.Context, first, end int64, yield func(int64, []byte) error) error {
	return f.do("entries", func() error { return f.Store.Entries(ctx, first, end, yield) })
}

// Evidence implements store.Store.
func (f *Faulty) Evidence(ctx context.Context, first, end int64, yield func(int64, ledger.Evidence) error) error {
	return f.do("evidence", func() error { return f.Store.Evidence(ctx, first, end, yield) })
}

// Tile implements store.Store.
func (f *Faulty) Tile(ctx context.Context, level int, n int64) (b []byte, err error) {
	err = f.do("tile", func() error { b, err = f.Store.Tile(ctx, level, n); return err })
	return b, err
}

// Begin implements store.Store.
func (f *Faulty) Begin(ctx context.Context) (tx store.Tx, err error) {
	err = f.do("begin", func() error { tx, err = f.Store.Begin(ctx); return err })
	if err != nil {
		if tx != nil {
			tx.Rollback()
		}
		return nil, err
	}
	return &faultyTx{tx, f}, nil
}

type faultyTx struct {
	store.Tx
	f *Faulty
}

func (t *faultyTx) Claim(ctx context.Context, now time.Time, names []store.Name) (out []store.Outcome, err error) {
	err = t.f.do("claim", func() error { out, err = t.Tx.Claim(ctx, now, names); return err })
	return out, err
}

func (t *faultyTx) Commit(ctx context.Context, b store.Batch) error {
	return t.f.do("commit", func() error { return t.Tx.Commit(ctx, b) })
}
