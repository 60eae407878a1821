package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// fakeProvider answers as its script says and keeps what it was sent. The script sees the attempt's number per
// token and may block in synthetic time.
type fakeProvider struct {
	mu     sync.Mutex
	start  time.Time
	script func(ctx context.Context, m *provider.Message, n int) provider.Outcome
	sent   []sending
	count  map[provider.PushToken]int
	busy   map[provider.PushToken]int
	most   int // most sends at once to one token
}

type sending struct {
	token provider.PushToken
	data  string
	prio  provider.Priority
	at    time.Duration
}

func (f *fakeProvider) Name() string { return "fake" }
func (f *fakeProvider) Host(m *provider.Message) string {
	host, _, _ := strings.Cut(string(m.Token), "/")
	return host
}

func (f *fakeProvider) Send(ctx context.Context, m *provider.Message) provider.Outcome {
	f.mu.Lock()
	f.count[m.Token]++
	n := f.count[m.Token]
	f.busy[m.Token]++
	f.most = max(f.most, f.busy[m.Token])
	f.sent = append(f.sent, sending{m.Token, string(m.Data.AppendJSON(nil)), m.Priority, time.Since(f.start)})
	script := f.script
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.busy[m.Token]--; f.mu.Unlock() }()
	if script == nil {
		return provider.Accepted(200)
	}
	return script(ctx, m, n)
}

func (f *fakeProvider) sends() []sending {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// rig is a running dispatcher in a synctest bubble with results by label.
type rig struct {
	*Dispatcher
	t       *testing.T
	p       *fakeProvider
	start   time.Time
	mu      sync.Mutex
	results map[string]Result
	deaths  []Death
	ended   int
	stop    func()
}

func (r *rig) Attempt(string, provider.Priority, provider.Outcome, time.Duration) {}
func (r *rig) Finished(string, provider.Priority, Result, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
}
func (r *rig) Died(d Death) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaths = append(r.deaths, d)
}

// bubble runs f against a dispatcher and stops it afterwards.
func bubble(t *testing.T, change func(*Config, *Lane), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		r := &rig{t: t, start: now, results: map[string]Result{}, p: &fakeProvider{
			start: now, count: map[provider.PushToken]int{}, busy: map[provider.PushToken]int{}}}
		cfg, lane := DefaultConfig(), Lane{Provider: r.p}
		if change != nil {
			change(&cfg, &lane)
		}
		r.Dispatcher = New(cfg, Deps{Lanes: map[provider.Platform]Lane{provider.IOS: lane}, Observer: r})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }() // ends with cancel
		r.stop = func() { cancel(); <-done }
		synctest.Wait()
		f(r)
		r.stop()
	})
}

func msg(token, data string, p provider.Priority) *provider.Message {
	d, err := provider.ParseData([]byte(data))
	if err != nil {
		panic(err)
	}
	return &provider.Message{Target: provider.Target{Platform: provider.IOS, Token: provider.PushToken(token)},
		Data: d, Priority: p, ExpiresAt: time.Now().Add(10 * time.Minute)}
}

func value(id string) string { return fmt.Sprintf(`{"key":"k","to":"c","ids":"%s"}`, id) }

func (r *rig) submit(label string, m *provider.Message) error {
	return r.Submit(m, func(res Result) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, twice := r.results[label]; twice {
			r.t.Errorf("%s ended twice", label)
		}
		r.results[label] = res
	})
}

func (r *rig) must(label string, m *provider.Message) {
	r.t.Helper()
	if err := r.submit(label, m); err != nil {
		r.t.Fatalf("submit %s: %v", label, err)
	}
}

func (r *rig) status(label string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	res, ok := r.results[label]
	if !ok {
		return "waiting"
	}
	return res.Status.String()
}

func (r *rig) want(label, status string) {
	r.t.Helper()
	if got := r.status(label); got != status {
		r.t.Errorf("%s is %s, want %s", label, got, status)
	}
}

// sleep lets synthetic time pass and everything due in it happen.
func sleep(d time.Duration) { time.Sleep(d); synctest.Wait() }
