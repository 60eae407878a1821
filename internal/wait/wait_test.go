package wait

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	for _, tc := range []struct {
		name           string
		d, end, waited time.Duration
		err            error
	}{
		{"to its end", time.Second, time.Hour, time.Second, nil},
		{"called off", time.Hour, time.Second, time.Second, context.DeadlineExceeded},
		{"over before", time.Hour, 0, 0, context.DeadlineExceeded},
		{"not at all", 0, time.Hour, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), tc.end)
				defer stop()
				began := time.Now()
				if err := For(ctx, tc.d); !errors.Is(err, tc.err) || time.Since(began) != tc.waited {
					t.Errorf("For = %v after %v, want %v after %v", err, time.Since(began), tc.err, tc.waited)
				}
			})
		})
	}
}
