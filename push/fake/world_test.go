package fake_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/internal/h2pool"
	"github.com/jirani/jirani/internal/safedial"
	"github.com/jirani/jirani/push/apns"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/fcm"
	"github.com/jirani/jirani/push/provider"
	"github.com/jirani/jirani/push/unifiedpush"
)

// world is the real providers and dispatcher against the simulators, on a network in memory and a synthetic
// clock.
type world struct {
	*fake.Network
	t     *testing.T
	net   *memNet
	disp  *dispatch.Dispatcher
	fcm   *fcm.Provider
	apns  *apns.Provider
	up    *unifiedpush.Provider
	pools []*h2pool.Pool

	mu      sync.Mutex
	results map[string]dispatch.Result
	deaths  []dispatch.Death
	reasons map[provider.Reason]int
}

func (w *world) Attempt(_ string, _ provider.Priority, out provider.Outcome, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reasons[out.Reason]++
}
func (w *world) Finished(string, provider.Priority, dispatch.Result, time.Duration) {}
func (w *world) Died(d dispatch.Death) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaths = append(w.deaths, d)
}

// setup may change what the world is made of.
type setup struct {
	fake  fake.Config
	apns  apns.Config
	cert  bool // APNs by certificate
	conns int
	cfg   dispatch.Config
}

// run makes a world in a bubble, lets f act in it, and takes it down.
func run(t *testing.T, change func(*setup), f func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := setup{cfg: dispatch.DefaultConfig(), conns: 2}
		s.fake.Latency, s.fake.Record = 30*time.Millisecond, true
		if change != nil {
			change(&s)
		}
		w := &world{t: t, net: newMemNet(t), results: map[string]dispatch.Result{}, reasons: map[provider.Reason]int{}}
		s.fake.Listen = w.net.Listen
		n, err := fake.New(s.fake, dir)
		if err != nil {
			t.Fatal(err)
		}
		w.Network = n
		w.build(s)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { n.Run(ctx) })
		dctx, dcancel := context.WithCancel(context.Background())
		var dwg sync.WaitGroup
		dwg.Go(func() { w.disp.Run(dctx) })
		synctest.Wait()
		f(w)
		dcancel()
		dwg.Wait()
		w.apns.Close()
		w.up.Close()
		for _, p := range w.pools {
			p.Close()
		}
		cancel()
		wg.Wait()
	})
}

func (w *world) pool(origin string, t *tls.Config, conns int) *h2pool.Pool {
	p := h2pool.New(h2pool.Config{Addr: strings.TrimPrefix(origin, "https://"), TLS: t, MaxConns: conns, Dial: w.net.Dial})
	w.pools = append(w.pools, p)
	return p
}

func (w *world) build(s setup) {
	c := w.Credentials
	var err error
	fcmPool := w.pool(c.FCMURL, c.TLS, s.conns)
	if w.fcm, err = fcm.New(fcm.Config{ServiceAccountFile: c.ServiceAccount, Endpoint: c.FCMURL,
		Transport: fcmPool, TokenTransport: fcmPool}); err != nil {
		w.t.Fatal(err)
	}
	a := s.apns
	a.KeyFile, a.KeyID, a.TeamID, a.TLS = c.APNsKey, c.APNsKeyID, c.APNsTeamID, c.TLS
	a.Topic, a.Production = "cx.ring.test", c.APNsURL
	if a.SandboxURL == "" {
		a.SandboxURL = c.APNsURL
	}
	a.NewTransport = func(origin string, t *tls.Config) apns.Transport {
		if s.cert {
			t = t.Clone()
			t.Certificates = []tls.Certificate{c.APNsCert}
		}
		return w.pool(origin, t, s.conns)
	}
	if w.apns, err = apns.New(a); err != nil {
		w.t.Fatal(err)
	}
	vapid, err := unifiedpush.LoadVAPID(w.t.TempDir()+"/vapid.pem", "mailto:ops@jirani.example")
	if err != nil {
		w.t.Fatal(err)
	}
	w.up = unifiedpush.New(unifiedpush.Config{
		VAPID: vapid,
		Policy: safedial.Policy{AnyPort: true, Own: func() []netip.Addr { return nil },
			AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		Transport: &http.Transport{DialContext: w.net.Dial, TLSClientConfig: c.TLS, ForceAttemptHTTP2: true, MaxConnsPerHost: 8},
	})
	w.disp = dispatch.New(s.cfg, dispatch.Deps{Observer: w, Lanes: map[provider.Platform]dispatch.Lane{
		provider.Android:     {Provider: w.fcm},
		provider.IOS:         {Provider: w.apns, Guard: 20 * time.Second},
		provider.UnifiedPush: {Provider: w.up, PerHost: 8},
	}})
}

// vendor is one simulator with a way to address it, so that rules that hold for all are tested on all.
type vendor struct {
	name     string
	platform provider.Platform
	sim      func(*world) simulator
	token    func(w *world, name string) provider.Target
}

type simulator interface {
	Accepted() []fake.Push
	Answers() map[int]int
	Tries(string) int
	GoAway(int)
	Open() int
	Connections() (made, streams int)
}

var vendors = []vendor{
	{"fcm", provider.Android, func(w *world) simulator { return w.FCM }, plainToken(provider.Android)},
	{"apns", provider.IOS, func(w *world) simulator { return w.APNs }, plainToken(provider.IOS)},
	{"unifiedpush", provider.UnifiedPush, func(w *world) simulator { return w.WebPush },
		func(w *world, name string) provider.Target {
			return provider.Target{Platform: provider.UnifiedPush, Token: provider.PushToken(w.Credentials.WebPushURL + "/" + name)}
		}},
}

func plainToken(p provider.Platform) func(*world, string) provider.Target {
	return func(_ *world, name string) provider.Target {
		return provider.Target{Platform: p, Token: provider.PushToken(name)}
	}
}

func (w *world) message(v vendor, name, data string, p provider.Priority) *provider.Message {
	d, err := provider.ParseData([]byte(data))
	if err != nil {
		w.t.Fatal(err)
	}
	return &provider.Message{Target: v.token(w, name), Data: d, Priority: p, Title: "hello", Mutable: true,
		ExpiresAt: time.Now().Add(10 * time.Minute), TTLGiven: true}
}

func (w *world) submit(label string, m *provider.Message) error {
	return w.disp.Submit(m, func(r dispatch.Result) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.results[label] = r
	})
}

func (w *world) must(label string, m *provider.Message) {
	w.t.Helper()
	if err := w.submit(label, m); err != nil {
		w.t.Fatalf("%s: %v", label, err)
	}
}

func (w *world) want(label string, status dispatch.Status) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := w.results[label]; !ok || r.Status != status {
		w.t.Errorf("%s: %+v (ended %v), want %v; answers so far: %v", label, r, ok, status, w.reasons)
	}
}

func (w *world) wantAll(n int, status dispatch.Status) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := 0
	for _, r := range w.results {
		if r.Status == status {
			got++
		}
	}
	if got != n {
		w.t.Errorf("%d of %d %v; %d ended; attempts: %v", got, n, status, len(w.results), w.reasons)
	}
}

// forAll runs f for each vendor.
func forAll(t *testing.T, change func(*setup), f func(w *world, v vendor, sim simulator)) {
	for _, v := range vendors {
		t.Run(v.name, func(t *testing.T) {
			run(t, change, func(w *world) { f(w, v, v.sim(w)) })
		})
	}
}

func sleep(d time.Duration) { time.Sleep(d); synctest.Wait() }

func value(i int) string {
	return fmt.Sprintf(`{"ids":"%d","key":"k%d","pt":"","s":"S","t":%d,"to":"acct"}`, i, i, i)
}
