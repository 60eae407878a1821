package fake_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

func TestDelivery(t *testing.T) {
	forAll(t, nil, func(w *world, v vendor, sim simulator) {
		for i := range 200 {
			w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.High))
		}
		sleep(10 * time.Second)
		w.wantAll(200, dispatch.Delivered)
		if n := len(sim.Accepted()); n != 200 {
			w.t.Errorf("%d accepted", n)
		}
		if made, streams := sim.Connections(); made > 8 {
			w.t.Errorf("%d connections with up to %d streams", made, streams)
		}
	})
}

func TestDeadTokens(t *testing.T) {
	script := func(s *setup) {
		s.fake.Faults = []fake.Fault{{Token: "dead", Status: 410}}
	}
	forAll(t, script, func(w *world, v vendor, sim simulator) {
		for i := range 5 {
			w.must(fmt.Sprint(i), w.message(v, "dead", value(i), provider.High))
		}
		w.must("live", w.message(v, "live", value(0), provider.High))
		sleep(time.Minute)
		w.wantAll(5, dispatch.Dead)
		w.want("live", dispatch.Delivered)
		if n := sim.Tries("dead"); n != 1 {
			w.t.Errorf("dead token tried %d times", n)
		}
		if len(w.deaths) != 1 {
			w.t.Errorf("deaths: %+v", w.deaths)
		}
		if err := w.submit("late", w.message(v, "dead", value(9), provider.High)); err == nil {
			w.t.Error("message to a dead token taken")
		}
	})
}

// TestRetryAfter: a 429 is obeyed to the time it names, or for a minute if it names none.
func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct{ asked, quiet time.Duration }{{30 * time.Second, 30 * time.Second}, {0, time.Minute}} {
		script := func(s *setup) {
			s.fake.Faults = []fake.Fault{{Token: "slow", Status: 429, RetryAfter: tc.asked, Times: 1}}
		}
		forAll(t, script, func(w *world, v vendor, sim simulator) {
			w.must("m", w.message(v, "slow", value(1), provider.High))
			sleep(tc.quiet - time.Second)
			if n := sim.Tries("slow"); n != 1 {
				w.t.Errorf("Retry-After %v: %d tries within %v", tc.asked, n, tc.quiet)
			}
			sleep(5 * time.Second)
			w.want("m", dispatch.Delivered)
		})
	}
}

func TestServerErrorBursts(t *testing.T) {
	script := func(s *setup) { s.fake.Faults = []fake.Fault{{Every: 3, Status: 503}, {Every: 7, Status: 500}} }
	forAll(t, script, func(w *world, v vendor, sim simulator) {
		const n = 300
		for i := range n {
			w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.Priority(i%2)))
		}
		sleep(5 * time.Minute)
		w.wantAll(n, dispatch.Delivered)
		if a := sim.Answers(); a[503] == 0 || a[500] == 0 {
			w.t.Errorf("answers: %v", a)
		}
	})
}

// TestOutage: the provider answers nothing but 503 for a minute. Everything is delivered within its life.
func TestOutage(t *testing.T) {
	script := func(s *setup) {
		s.fake.Faults = []fake.Fault{{From: 5 * time.Second, For: time.Minute, Status: 503}}
	}
	forAll(t, script, outage)
}

// TestSilence: the same, but the provider does not answer at all.
func TestSilence(t *testing.T) {
	script := func(s *setup) {
		s.fake.Faults = []fake.Fault{{From: 5 * time.Second, For: time.Minute, Status: 0}}
	}
	forAll(t, script, outage)
}

func outage(w *world, v vendor, sim simulator) {
	const n = 140
	for i := range n {
		w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.Priority(i%2)))
		time.Sleep(500 * time.Millisecond)
	}
	sleep(time.Minute)
	w.wantAll(n, dispatch.Delivered)
	if got := len(sim.Accepted()); got != n {
		w.t.Errorf("%d accepted, want each of %d once", got, n)
	}
}

// TestUnreachable: no connection can be made for a minute, and those that exist are gone.
func TestUnreachable(t *testing.T) {
	forAll(t, nil, func(w *world, v vendor, sim simulator) {
		const n = 100
		for i := range n {
			switch i {
			case 20:
				w.net.Cut(true)
				sim.GoAway(0)
			case 80:
				w.net.Cut(false)
			}
			w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.High))
			time.Sleep(time.Second)
		}
		sleep(time.Minute)
		w.wantAll(n, dispatch.Delivered)
	})
}

// TestGoAwayMidFlight: with many streams open the provider says goodbye and passes over all but three.
func TestGoAwayMidFlight(t *testing.T) {
	script := func(s *setup) { s.fake.Latency = 200 * time.Millisecond }
	forAll(t, script, func(w *world, v vendor, sim simulator) {
		w.must("first", w.message(v, "first", value(0), provider.High))
		sleep(time.Second)
		for i := range 60 {
			w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.High))
		}
		sleep(100 * time.Millisecond)
		if sim.Open() < 4 {
			w.t.Fatalf("only %d streams open", sim.Open())
		}
		sim.GoAway(3)
		sleep(30 * time.Second)
		w.wantAll(61, dispatch.Delivered)
		if got := len(sim.Accepted()); got != 61 {
			w.t.Errorf("%d accepted, want each of 61 once", got)
		}
	})
}

// TestStreamLimits: the provider grants one stream until it has seen good credentials, then five.
func TestStreamLimits(t *testing.T) {
	script := func(s *setup) { s.fake.Limits = fake.Limits{Fresh: 1, Streams: 5}; s.conns = 2 }
	forAll(t, script, func(w *world, v vendor, sim simulator) {
		for i := range 200 {
			w.must(fmt.Sprint(i), w.message(v, fmt.Sprint("dev", i), value(i), provider.High))
		}
		sleep(30 * time.Second)
		w.wantAll(200, dispatch.Delivered)
		made, streams := sim.Connections()
		if streams > 5 || (v.name != "unifiedpush" && made > 2) {
			w.t.Errorf("%d connections, up to %d streams", made, streams)
		}
		w.t.Logf("%d connections, up to %d streams, reasons %v", made, streams, w.reasons)
	})
}
