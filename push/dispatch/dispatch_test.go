package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

func TestCallOvertakes(t *testing.T) {
	bubble(t, func(c *Config, _ *Lane) { c.InFlight = 1 }, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			time.Sleep(100 * time.Millisecond)
			return provider.Accepted(200)
		}
		r.must("busy", msg("h/0", value("0"), provider.High))
		synctest.Wait()
		r.must("n", msg("h/1", `{"x":1}`, provider.Normal)) // no key: no window
		r.must("h", msg("h/2", value("2"), provider.High))
		r.must("c", msg("h/3", `{"key":"k","to":"c","ids":"3","pt":"videoCall"}`, provider.High))
		sleep(time.Second)
		var order []string
		for _, s := range r.p.sends() {
			order = append(order, string(s.token))
		}
		if fmt.Sprint(order) != "[h/0 h/3 h/2 h/1]" {
			t.Errorf("order %v", order)
		}
	})
}

func TestNormalLeavesRoomForUrgent(t *testing.T) {
	bubble(t, func(c *Config, _ *Lane) { c.InFlight = 8 }, func(r *rig) {
		r.p.script = func(ctx context.Context, m *provider.Message, _ int) provider.Outcome {
			if m.Priority == provider.Normal {
				<-ctx.Done()
				return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonTimeout}
			}
			return provider.Accepted(200)
		}
		for i := range 20 {
			r.must(fmt.Sprint("n", i), msg(fmt.Sprint("h/", i), `{"x":1}`, provider.Normal))
		}
		synctest.Wait()
		r.must("call", msg("h/call", value("1"), provider.High))
		synctest.Wait()
		r.want("call", "delivered")
	})
}

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

func TestUrgentDoesNotWaitForHungSend(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(ctx context.Context, m *provider.Message, _ int) provider.Outcome {
			if m.Priority == provider.Normal {
				<-ctx.Done()
			}
			return provider.Accepted(200)
		}
		r.must("n", msg("h/t", `{"x":1}`, provider.Normal))
		synctest.Wait()
		r.must("call", msg("h/t", value("1"), provider.High))
		sleep(overtake - time.Millisecond)
		r.want("call", "waiting")
		sleep(time.Millisecond)
		r.want("call", "delivered")
	})
}

func TestGuardKeepsCallFromBeingDisplaced(t *testing.T) {
	bubble(t, func(_ *Config, l *Lane) { l.Guard = 20 * time.Second }, func(r *rig) {
		r.must("call", msg("h/t", `{"key":"k","pt":"audioCall"}`, provider.High))
		synctest.Wait()
		r.must("chat", msg("h/t", `{"key":"l"}`, provider.High))
		r.must("presence", msg("h/t", `{"key":"m"}`, provider.Normal))
		r.must("elsewhere", msg("h/u", `{"key":"m"}`, provider.High))
		r.must("second call", msg("h/t", `{"key":"n","pt":"audioCall"}`, provider.High))
		sleep(20*time.Second - time.Millisecond)
		r.want("call", "delivered")
		r.want("second call", "delivered")
		r.want("elsewhere", "delivered")
		r.want("chat", "waiting")
		sleep(time.Millisecond)
		r.want("chat", "delivered")
		r.want("presence", "waiting")
		sleep(20 * time.Second)
		r.want("presence", "delivered")
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

func TestRetryAfterScopes(t *testing.T) {
	for _, tc := range []struct {
		scope       provider.Scope
		same, other string // state after 29 s of messages submitted after the answer
	}{
		{provider.ScopeMessage, "delivered", "delivered"},
		{provider.ScopeToken, "waiting", "delivered"},
		{provider.ScopeHost, "waiting", "waiting"},
	} {
		bubble(t, nil, func(r *rig) {
			r.p.script = func(_ context.Context, m *provider.Message, n int) provider.Outcome {
				if n == 1 && m.Token == "h/t" {
					return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonRate, Scope: tc.scope, After: 30 * time.Second}
				}
				return provider.Accepted(200)
			}
			r.must("first", msg("h/t", value("1"), provider.High))
			synctest.Wait()
			r.must("same", msg("h/t", `{"key":"other"}`, provider.High))
			r.must("other", msg("h/u", value("1"), provider.High))
			sleep(29 * time.Second)
			r.want("first", "waiting")
			r.want("same", tc.same)
			r.want("other", tc.other)
			sleep(20 * time.Second)
			for _, label := range []string{"first", "same", "other"} {
				r.want(label, "delivered")
			}
		})
	}
}

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

func TestRefusedCredentialsPauseAndKeep(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			if time.Since(r.start) < 3*time.Minute {
				return provider.Outcome{Verdict: provider.Refused, Reason: provider.ReasonAuth, Status: 403}
			}
			return provider.Accepted(200)
		}
		for i := range 20 {
			r.must(fmt.Sprint(i), msg(fmt.Sprint("h/", i), value("1"), provider.High))
		}
		sleep(5 * time.Minute)
		for i := range 20 {
			r.want(fmt.Sprint(i), "delivered")
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

func TestPerHostConcurrency(t *testing.T) {
	bubble(t, func(_ *Config, l *Lane) { l.PerHost = 2 }, func(r *rig) {
		var mu sync.Mutex
		now, most := map[string]int{}, 0
		r.p.script = func(_ context.Context, m *provider.Message, _ int) provider.Outcome {
			h := r.p.Host(m)
			mu.Lock()
			now[h]++
			most = max(most, now[h])
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			now[h]--
			mu.Unlock()
			return provider.Accepted(200)
		}
		for i := range 40 {
			r.must(fmt.Sprint(i), msg(fmt.Sprintf("host%d/%d", i%4, i), value("1"), provider.High))
		}
		sleep(time.Second)
		for i := range 40 {
			r.want(fmt.Sprint(i), "delivered")
		}
		if most != 2 {
			t.Errorf("%d at once to one host, want 2", most)
		}
		if s := r.Stats()["fake"]; s.Hosts != 0 {
			t.Errorf("%d idle hosts kept", s.Hosts)
		}
	})
}

func TestOneHostInTroubleDoesNotHoldOthers(t *testing.T) {
	bubble(t, func(_ *Config, l *Lane) { l.PerHost = 2 }, func(r *rig) {
		r.p.script = func(ctx context.Context, m *provider.Message, _ int) provider.Outcome {
			if r.p.Host(m) == "bad" {
				<-ctx.Done()
				return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonTimeout}
			}
			return provider.Accepted(200)
		}
		for i := range 20 {
			r.must(fmt.Sprint("bad", i), msg(fmt.Sprint("bad/", i), value("1"), provider.High))
			r.must(fmt.Sprint("good", i), msg(fmt.Sprint("good/", i), value("1"), provider.High))
		}
		synctest.Wait()
		for i := range 20 {
			r.want(fmt.Sprint("good", i), "delivered")
		}
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

// TestOutage takes the provider away for 60 s under load: nothing may be lost within its life, the breaker must
// keep the gateway from hammering, and the most urgent of the backlog must come first afterwards.
func TestOutage(t *testing.T) {
	const each, from, to = 300, 10 * time.Second, 70 * time.Second
	bubble(t, func(c *Config, _ *Lane) { c.InFlight = 50 }, func(r *rig) {
		r.p.script = func(context.Context, *provider.Message, int) provider.Outcome {
			time.Sleep(30 * time.Millisecond)
			if since := time.Since(r.start); since > from && since < to {
				return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonServer, Status: 503}
			}
			return provider.Accepted(200)
		}
		pts := []string{"", "", "videoCall"}
		for i := range each {
			for p, pt := range pts {
				data := fmt.Sprintf(`{"key":"%d","pt":"%s"}`, i, pt)
				r.must(fmt.Sprint(p, "/", i), msg(fmt.Sprintf("h/%d/%d", p, i), data, provider.Priority(min(p, 1))))
			}
			time.Sleep(60 * time.Second / each)
		}
		sleep(30 * time.Second)
		if r.ended != 3*each {
			t.Errorf("%d of %d ended", r.ended, 3*each)
		}
		for label := range r.results {
			r.want(label, "delivered")
		}
		var during int
		var first, last [3]time.Duration
		for _, s := range r.p.sends() {
			switch {
			case s.at > from && s.at < to:
				during++
			case s.at >= to:
				if first[s.prio] == 0 {
					first[s.prio] = s.at
				}
				last[s.prio] = s.at
			}
		}
		t.Logf("tries during the outage: %d; backlog by priority from %v to %v", during, first, last)
		if during > 100 {
			t.Errorf("%d tries during the outage", during)
		}
		if !slices.IsSortedFunc([]time.Duration{first[provider.Call], first[provider.High], first[provider.Normal]},
			func(a, b time.Duration) int { return int(a - b) }) {
			t.Errorf("first of the backlog, by priority: %v", first)
		}
	})
}
