package registry

import (
	"context"
	"fmt"

	"github.com/jirani/jirani/nameserver/ledger"
)

// Burn implements Writer. Burning a burnt name does nothing.
func (r *Registry) Burn(ctx context.Context, key, reason string) error {
	if len(key) == 0 || len(key) > ledger.MaxName || len(reason) > ledger.MaxName {
		return fmt.Errorf("%w: name or reason too long", ledger.ErrMalformed)
	}
	if _, err := ledger.ParseEntry(ledger.AppendEntry(nil, &ledger.Tombstone{Key: key, Reason: reason})); err != nil {
		return err
	}
	return r.operate(&request{ctx: ctx, make: func(_ head, ms ledger.Millis) (ledger.Entry, error) {
		if f, ok := r.tree.Get(ledger.NameKey(key)); ok {
			if l, err := r.load(ctx, f.Index); err != nil || l.entry.Kind() == ledger.KindTombstone {
				return nil, err
			}
		}
		return &ledger.Tombstone{Millis: ms, Key: key, Reason: reason}, nil
	}})
}

// RecordPolicy implements Writer.
func (r *Registry) RecordPolicy(ctx context.Context, hash [32]byte) error {
	return r.operate(&request{ctx: ctx, make: func(h head, ms ledger.Millis) (ledger.Entry, error) {
		if h.policy == hash {
			return nil, nil
		}
		return &ledger.Policy{Millis: ms, Hash: hash}, nil
	}})
}

// RecordImport logs that registrations from here on come from another log. It
// does nothing if the log's last entries say so already.
func (r *Registry) RecordImport(ctx context.Context, from ledger.Import) error {
	return r.operate(&request{ctx: ctx, make: func(h head, ms ledger.Millis) (ledger.Entry, error) {
		if h.imported == from {
			return nil, nil
		}
		e := from
		e.Millis = ms
		return &e, nil
	}})
}

// RotateKey implements Writer. The caller has stored next safely before: from
// here on the old key signs nothing.
func (r *Registry) RotateKey(ctx context.Context, next ledger.SigningKey) error {
	if next.Name() != r.origin {
		return fmt.Errorf("%w: key is of %q, log is %q", ledger.ErrMalformed, next.Name(), r.origin)
	}
	return r.operate(&request{ctx: ctx, next: next, make: func(h head, ms ledger.Millis) (ledger.Entry, error) {
		if h.vkey() == next.VKey() {
			return nil, nil
		}
		return ledger.NewKeyEntry(r.key, next, ms), nil
	}})
}

func (r *Registry) operate(q *request) error {
	if r.mirror() || r.frozen() {
		return ErrReadOnly
	}
	_, err := r.enqueue(q)
	return err
}
