package bootstrap

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/service"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestSampleIsDefault(t *testing.T) {
	var got service.File[Config]
	if err := config.Load(&got, config.Source{Path: "bootstrap.sample.yaml"}); err != nil {
		t.Fatal(err)
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(Role.Defaults(), got, equal, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("sample differs from the defaults (-default +sample):\n%s", diff)
	}
}

func TestValidateNamesKeys(t *testing.T) {
	c := Default()
	c.Listen, c.Bootstrap, c.StateInterval, c.Queues = nil, []string{"a:b:c"}, time.Second, 65
	c.Identity.Certificate, c.Limits.Requests, c.Limits.Storage = "c.pem", 0, -1
	c.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	err := c.Validate()
	for _, key := range []string{"listen", "bootstrap[0]", "state_interval", "queues", "identity", "limits.requests", "limits.storage", "allow[0]"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("Validate = %v, want a problem with %s", err, key)
		}
	}
}

// testConfig listens on a free port of loopback.
func testConfig(t *testing.T) Config {
	c := Default()
	c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	c.StateFile = filepath.Join(t.TempDir(), "state")
	return c
}

// run runs a server and returns how to end it.
func run(t *testing.T, s *Server) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func newServer(t *testing.T, c Config, deps Deps) *Server {
	t.Helper()
	s, err := New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateSurvives(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := testConfig(t)
	first := newServer(t, c, Deps{})
	end := run(t, first)
	if _, err := New(c, Deps{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server on the same state = %v", err)
	}
	key := dht.HashText("kept")
	value := &dht.Value{ID: 7, Data: []byte("over a restart")}
	first.Node().Put(t.Context(), key, value, dhtnode.PutOptions{}) // alone: kept here only
	id := first.Node().ID()
	end()

	second := newServer(t, c, Deps{})
	defer run(t, second)()
	if got := second.Node().ID(); got == id {
		t.Errorf("id after a restart = %v as before: who knows it gives nothing again", got)
	}
	var got []*dht.Value
	second.Node().Get(t.Context(), key, dht.Query{}, func(v *dht.Value) bool { got = append(got, v); return true })
	if len(got) != 1 || string(got[0].Data) != "over a restart" {
		t.Errorf("values after a restart = %v", got)
	}
}

// await polls until cond holds.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

// A disk that cannot be written is to show at the start, not five minutes later.
func TestStateIsWrittenFromTheStart(t *testing.T) {
	c := testConfig(t)
	s := newServer(t, c, Deps{})
	end := run(t, s)
	defer end()
	await(t, func() bool {
		saved, err := state.Load(c.StateFile, time.Now(), dhtcrypto.Types(nil).Lifetime)
		return err == nil && saved.ID == s.Node().ID()
	})
}

func TestDamagedStateIsPutAside(t *testing.T) {
	c := testConfig(t)
	if err := os.WriteFile(c.StateFile, []byte("half a sta"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer run(t, newServer(t, c, Deps{}))()
	if b, err := os.ReadFile(c.StateFile + ".damaged"); err != nil || string(b) != "half a sta" {
		t.Errorf("damaged file = %q, %v", b, err)
	}
}

// A disk that takes nothing: the node serves on, and says so in the metrics.
func TestUnwritableStateServesOn(t *testing.T) {
	c := testConfig(t)
	reg := prometheus.NewRegistry()
	s := newServer(t, c, Deps{Metrics: reg})
	if err := os.Mkdir(c.StateFile, 0o700); err != nil { // the rename that ends a save fails
		t.Fatal(err)
	}
	defer run(t, s)()
	await(t, func() bool { return s.metrics.saveErrors.Load() == 1 }) // the one at the start
	want := "# HELP bootstrap_state_saves_total Attempts to write the state file, by outcome.\n# TYPE bootstrap_state_saves_total counter\n" +
		"bootstrap_state_saves_total{outcome=\"error\"} 1\nbootstrap_state_saves_total{outcome=\"ok\"} 0\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "bootstrap_state_saves_total"); err != nil {
		t.Error(err)
	}
	if err := s.ready(t.Context()); err != nil {
		t.Errorf("ready = %v", err)
	}
	if err := os.Remove(c.StateFile); err != nil {
		t.Fatal(err)
	}
}

func TestPortTaken(t *testing.T) {
	c := testConfig(t)
	s := newServer(t, c, Deps{})
	defer run(t, s)()
	c.Listen, c.StateFile = s.Addrs(), ""
	_, err := New(c, Deps{})
	if err == nil || !strings.Contains(err.Error(), "listen[0]") || !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		t.Errorf("New on a taken port = %v", err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	checks := new(health.Checks)
	defer run(t, newServer(t, testConfig(t), Deps{Metrics: reg, Health: checks}))()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint = %v, %v", problems, err)
	}
	for _, r := range checks.Run(t.Context()) {
		if r.Err != nil {
			t.Errorf("check %s = %v", r.Name, r.Err)
		}
	}
}

func TestIsolation(t *testing.T) {
	var i isolation
	now := time.Now()
	steps := []struct {
		after     time.Duration
		connected bool
		want      error
	}{
		{0, false, nil},
		{isolatedAfter - time.Second, false, nil},
		{isolatedAfter, false, errIsolated},
		{isolatedAfter + time.Minute, true, nil},
		{isolatedAfter + 2*time.Minute, false, nil},
		{3 * isolatedAfter, false, errIsolated},
	}
	for _, s := range steps {
		if got := i.check(now.Add(s.after), s.connected); got != s.want {
			t.Errorf("after %v, connected %v: %v, want %v", s.after, s.connected, got, s.want)
		}
	}
}

// With maintain a node that is stopped leaves what it stores with others.
func TestMaintainHandsOverAtTheEnd(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := testConfig(t)
	c.Maintain = true
	leaver := newServer(t, c, Deps{})
	endLeaver := run(t, leaver)
	key := dht.HashText("kept by the other")
	value := &dht.Value{ID: 7, Data: []byte("v")}
	leaver.Node().Put(t.Context(), key, value, dhtnode.PutOptions{}) // alone: kept here only

	c = testConfig(t)
	c.Bootstrap = []string{leaver.Addrs()[0].String()}
	other := newServer(t, c, Deps{})
	defer run(t, other)()
	await(t, func() bool { v4, _ := leaver.Node().Status(); return v4 == dhtnode.Connected })
	endLeaver()
	if s := other.Node().Stats().Storage; s.Values != 1 {
		t.Errorf("the other node stores %+v", s)
	}
}
