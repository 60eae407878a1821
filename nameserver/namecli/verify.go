package namecli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

const verifyUsage = `[-config FILE] [-set KEY=VALUE] [-json]

checks every entry of the ledger, every signature of every account included
Root and map are computed anew from the entries and compared with what the
checkpoint signs; 5,000 registrations take about a second on one core.
`

// verifyAnswer is what was checked.
type verifyAnswer struct {
	statAnswer
	Registrations int64 `json:"registrations"` // whose evidence was checked
}

func ledgerVerify(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	return f.withReader(ctx, func(_ nameserver.Config, st store.Store, reg *registry.Registry) error {
		stat, err := statOf(ctx, reg)
		if err != nil {
			return err
		}
		n, err := verifyEvidence(ctx, st, stat.Size)
		if err != nil {
			return err
		}
		a := verifyAnswer{stat, n}
		return f.show(e, a, func(w io.Writer) {
			a.text(w)
			fmt.Fprintf(w, "checked       %d entries, the signatures of %d registrations\n", a.Size, a.Registrations)
		})
	})
}

// perStep is how many entries are read and checked at a time.
const perStep = 1024

// verifyEvidence checks the evidence of every registration below size, on all
// cores, and returns how many there are.
func verifyEvidence(ctx context.Context, st store.Store, size int64) (int64, error) {
	var count atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for first := int64(0); first < size && ctx.Err() == nil; first += perStep {
		end := min(first+perStep, size)
		g.Go(func() error {
			n, err := verifyRange(ctx, st, first, end)
			count.Add(n)
			return err
		})
	}
	err := g.Wait()
	return count.Load(), err
}

func verifyRange(ctx context.Context, st store.Store, first, end int64) (n int64, err error) {
	entries := make([]ledger.Entry, 0, end-first)
	err = st.Entries(ctx, first, end, func(_ int64, b []byte) error {
		e, err := ledger.ParseEntry(b)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return 0, err
	}
	err = st.Evidence(ctx, first, end, func(i int64, ev ledger.Evidence) error {
		r, ok := entries[i-first].(*ledger.Register)
		if !ok {
			return nil
		}
		n++
		if err := r.Verify(ev); err != nil {
			return fmt.Errorf("entry %d, name %q: %w", i, r.Name, err)
		}
		return nil
	})
	return n, err
}
