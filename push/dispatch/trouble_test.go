package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

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
