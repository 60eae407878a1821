// Package wait is a sleep that can be called off.
package wait

import (
	"context"
	"time"
)

// For blocks for d, or until ctx ends, and then returns its error.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
