package health

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Checks
		broken := errors.New("disk full")
		c.Add("network", func(context.Context) error { return nil })
		c.Add("storage", func(context.Context) error { return broken })
		c.Add("stuck", func(ctx context.Context) error { <-ctx.Done(); return nil })
		got := c.Run(t.Context())
		if len(got) != 3 || got[0].Err != nil || got[1].Err != broken || got[1].Name != "storage" {
			t.Errorf("Run = %v", got)
		}
	})
}

func TestAddTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Add of a second check with the same name did not panic")
		}
	}()
	var c Checks
	c.Add("a", nil)
	c.Add("a", nil)
}
