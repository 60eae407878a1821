package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

func TestOneAtATimePerToken(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			time.Sleep(150 * time.Millisecond)
			return provider.Accepted(200)
		}
		for i := range 5 {
			r.must(fmt.Sprint(i), msg("h/t", fmt.Sprintf(`{"key":"%d"}`, i), provider.High))
		}
		sleep(3 * time.Second)
		for i := range 5 {
			r.want(fmt.Sprint(i), "delivered")
		}
		if r.p.most != 1 {
			t.Errorf("%d at once to one token", r.p.most)
		}
	})
}

func TestTokenRate(t *testing.T) {
	bubble(t, func(c *Config, _ *Lane) { c.Normal, c.Urgent = Rate{30, 10}, Rate{120, 30} }, func(r *rig) {
		for i := range 20 {
			r.must(fmt.Sprint("n", i), msg("h/t", fmt.Sprintf(`{"x":%d}`, i), provider.Normal))
		}
		synctest.Wait()
		if n := len(r.p.sends()); n != 10 {
			t.Errorf("burst of %d, want 10", n)
		}
		r.must("high", msg("h/t", value("1"), provider.High))
		synctest.Wait()
		r.want("high", "delivered")
		sleep(20 * time.Second)
		if n := len(r.p.sends()); n != 21 {
			t.Errorf("%d after 20 s, want 21", n)
		}
	})
}

func TestDeadTokenIsNotTriedAgain(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			time.Sleep(50 * time.Millisecond)
			return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonUnregistered, Status: 410}
		}
		for i := range 10 {
			r.must(fmt.Sprint(i), msg("h/t", fmt.Sprintf(`{"key":"%d"}`, i), provider.High))
		}
		r.must("window", msg("h/t", `{"key":"w"}`, provider.Normal))
		sleep(5 * time.Second)
		if n := len(r.p.sends()); n != 1 {
			t.Errorf("%d tries, want 1", n)
		}
		for i := range 10 {
			r.want(fmt.Sprint(i), "dead_token")
		}
		r.want("window", "dead_token")
		if err := r.submit("late", msg("h/t", value("1"), provider.High)); !errors.Is(err, ErrDeadToken) {
			t.Errorf("submit to dead token = %v", err)
		}
		if len(r.deaths) != 1 || r.deaths[0].Target.Token != "h/t" {
			t.Errorf("deaths %+v", r.deaths)
		}
		again := msg("h/t", value("2"), provider.High)
		again.RegisteredAt = time.Now()
		r.must("revived", again)
		synctest.Wait()
		if n := len(r.p.sends()); n != 2 {
			t.Errorf("revived token tried %d times in all, want 2", n)
		}
	})
}

func TestOldDeathOfReregisteredToken(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(_ context.Context, _ *provider.Message, n int) provider.Outcome {
			if n == 1 {
				return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonUnregistered, DeadSince: r.start.Add(-time.Hour)}
			}
			return provider.Accepted(200)
		}
		m := msg("h/t", value("1"), provider.High)
		m.RegisteredAt = r.start.Add(-time.Minute)
		r.must("a", m)
		sleep(5 * time.Second)
		r.want("a", "delivered")
		if len(r.deaths) != 0 {
			t.Error("a token that registered since was reported dead")
		}
	})
}

func TestTombstonesAreBounded(t *testing.T) {
	bubble(t, func(c *Config, _ *Lane) { c.MaxDead = 5; c.DeadFor = time.Hour }, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonBadToken}
		}
		for i := range 20 {
			r.must(fmt.Sprint(i), msg(fmt.Sprint("h/", i), value("1"), provider.High))
		}
		synctest.Wait()
		if n := r.Stats()["fake"].Dead; n != 5 {
			t.Errorf("%d tombstones, want 5", n)
		}
		sleep(2 * time.Hour)
		if n := r.Stats()["fake"].Dead; n != 0 {
			t.Errorf("%d tombstones after their time", n)
		}
	})
}

func TestPacesAreForgotten(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for i := range 100 {
			r.must(fmt.Sprint(i), msg(fmt.Sprint("h/", i), value("1"), provider.High))
		}
		sleep(5 * time.Minute)
		l := r.lanes[provider.IOS]
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.tokens.young) + len(l.tokens.old); n != 0 {
			t.Errorf("%d tokens kept after five minutes", n)
		}
	})
}
