package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

func TestExpiresWhileWaiting(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			return provider.Outcome{Verdict: provider.Retry, Scope: provider.ScopeHost, After: time.Hour}
		}
		m := msg("h/t", value("1"), provider.High)
		m.ExpiresAt = time.Now().Add(time.Minute)
		r.must("a", m)
		sleep(3 * time.Minute)
		r.want("a", "expired")
		if len(r.p.sends()) != 1 {
			t.Errorf("%d tries", len(r.p.sends()))
		}
		late := msg("h/t", value("1"), provider.High)
		late.ExpiresAt = time.Now()
		if err := r.submit("late", late); !errors.Is(err, ErrExpired) {
			t.Errorf("expired message: %v", err)
		}
	})
}

func TestShedding(t *testing.T) {
	bubble(t, func(c *Config, _ *Lane) { c.MaxWaiting = 3 }, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			return provider.Outcome{Verdict: provider.Retry, Scope: provider.ScopeHost, After: time.Minute}
		}
		r.must("first", msg("h/0", `{"x":1}`, provider.High))
		synctest.Wait() // the host now rests; "first" waits
		r.must("n1", msg("h/1", `{"x":1}`, provider.Normal))
		r.must("n2", msg("h/2", `{"x":1}`, provider.Normal))
		r.must("n3", msg("h/3", `{"x":1}`, provider.Normal))
		r.want("n1", "shed")
		r.must("h1", msg("h/4", `{"x":1}`, provider.High))
		r.must("h2", msg("h/5", `{"x":1}`, provider.High))
		r.want("n2", "shed")
		r.want("n3", "shed")
		if err := r.submit("h3", msg("h/6", `{"x":1}`, provider.High)); !errors.Is(err, ErrFull) {
			t.Errorf("fourth urgent message: %v", err)
		}
		if err := r.submit("n4", msg("h/7", `{"x":1}`, provider.Normal)); !errors.Is(err, ErrFull) {
			t.Errorf("normal message among urgent ones: %v", err)
		}
		r.must("call", msg("h/8", `{"key":"k","pt":"audioCall"}`, provider.High))
		r.want("first", "shed")
		if s := r.Stats()["fake"]; s.Waiting != [3]int{0, 2, 1} || s.Paused != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestDrain(t *testing.T) {
	bubble(t, func(c *Config, l *Lane) { c.Drain = 5 * time.Second; l.Guard = time.Minute }, func(r *rig) {
		r.p.script = func(ctx context.Context, m *provider.Message, _ int) provider.Outcome {
			if r.p.Host(m) == "down" {
				<-ctx.Done()
				return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonNetwork}
			}
			return provider.Accepted(200)
		}
		r.must("window", msg("h/t", value("1"), provider.Normal))
		r.must("stuck", msg("down/t", value("1"), provider.High))
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("drained for %v, want 5s", took)
		}
		r.want("window", "delivered")
		r.want("stuck", "shutdown")
		if err := r.submit("late", msg("h/t", value("2"), provider.High)); !errors.Is(err, ErrClosed) {
			t.Errorf("submit after Run: %v", err)
		}
	})
}

func TestDrainEndsEarlyWhenEmpty(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			time.Sleep(time.Second)
			return provider.Accepted(200)
		}
		r.must("a", msg("h/t", value("1"), provider.Normal))
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("drained for %v, want 1s", took)
		}
		r.want("a", "delivered")
	})
}

func TestSubmitErrors(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		m := msg("h/t", value("1"), provider.High)
		m.Platform = provider.Android
		if err := r.submit("x", m); !errors.Is(err, ErrNoLane) {
			t.Errorf("no lane: %v", err)
		}
		if err := r.submit("x", msg("/nohost", value("1"), provider.High)); !errors.Is(err, ErrTarget) {
			t.Errorf("no host: %v", err)
		}
	})
}
