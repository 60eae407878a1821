package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

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
