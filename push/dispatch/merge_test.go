package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

func TestNormalWaitsAndMerges(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.must("a", msg("h/t", value("1"), provider.Normal))
		sleep(time.Second)
		r.must("b", msg("h/t", value("2"), provider.Normal))
		r.must("other", msg("h/u", value("3"), provider.Normal))
		if n := len(r.p.sends()); n != 0 {
			t.Fatalf("%d sent before the window closed", n)
		}
		sleep(time.Second)
		r.want("a", "delivered")
		r.want("b", "delivered")
		r.want("other", "waiting")
		if s := r.p.sends(); len(s) != 1 || s[0].data != `{"ids":"1,2","key":"k","to":"c"}` || s[0].at != 2*time.Second {
			t.Errorf("sent %+v", s)
		}
	})
}

func TestUrgentGoesAtOnceAndTakesWaitingAlong(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.must("normal", msg("h/t", value("1"), provider.Normal))
		r.must("high", msg("h/t", value("2"), provider.High))
		synctest.Wait()
		r.want("normal", "delivered")
		r.want("high", "delivered")
		if s := r.p.sends(); len(s) != 1 || s[0].at != 0 || s[0].prio != provider.High {
			t.Errorf("sent %+v", s)
		}
	})
}

func TestShortLifeSkipsTheWindow(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		m := msg("h/t", value("1"), provider.Normal)
		m.ExpiresAt = time.Now().Add(time.Second)
		r.must("a", m)
		synctest.Wait()
		r.want("a", "delivered")
	})
}

func TestFailedMessageMergesIntoNewer(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(_ context.Context, _ *provider.Message, n int) provider.Outcome {
			time.Sleep(100 * time.Millisecond)
			if n == 1 {
				return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonServer}
			}
			return provider.Accepted(200)
		}
		r.must("old", msg("h/t", value("1"), provider.High))
		synctest.Wait()
		r.must("new", msg("h/t", value("2"), provider.High))
		sleep(5 * time.Second)
		r.want("old", "delivered")
		r.want("new", "delivered")
		if s := r.p.sends(); len(s) != 2 || s[1].data != `{"ids":"1,2","key":"k","to":"c"}` {
			t.Errorf("sent %+v", s)
		}
	})
}

func TestTooLargeToMerge(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for i := range provider.MaxMergedIDs + 5 {
			r.must(fmt.Sprint(i), msg("h/t", value(fmt.Sprint(i)), provider.Normal))
		}
		sleep(3 * time.Second)
		s := r.p.sends()
		if len(s) != 2 || s[0].at != 0 || s[1].at != 2*time.Second {
			t.Errorf("sent %+v", s)
		}
		if r.ended != provider.MaxMergedIDs+5 {
			t.Errorf("%d endings of %d", r.ended, provider.MaxMergedIDs+5)
		}
	})
}
