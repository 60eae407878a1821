// Package dispatch carries push messages to their providers: each as soon as the rules allow, none after its
// life, none twice to a dead token.
//
// There is one lane per platform, with its own queue, clock and workers. A message's way through it:
//
//	Submit ── merge with a waiting one of the same token, key and client ──▶ (done)
//	   │
//	   ├─ Normal: wait Config.Window, so that more may merge
//	   ▼
//	ready, by host and priority: Call before High before Normal, hosts in turn
//	   │  checks at the moment of sending, in this order:
//	   │   life over → expired;  token dead → dead;  token held by its provider → wait;
//	   │   another message to the token in flight → wait for it;  a more urgent one was just delivered to a
//	   │   provider that keeps one message per device → wait Lane.Guard;  token's rate → wait
//	   ▼
//	Provider.Send ─▶ Outcome: delivered | retry (message, token or host waits) | dropped | token dead
//
// A host that fails BreakerFails times in a row is left alone, then tried with one message at a time, most
// urgent first, until one gets through. A host that refuses our credentials is left alone for RefusedPause, and
// its messages keep waiting: the fault is ours and will be mended.
//
// The queue is in memory and bounded (Config.MaxWaiting, MaxWaitingBytes). When full, the oldest message of the
// lowest priority below the new one's makes room; a Normal one displaces the oldest Normal one; only when nothing
// less urgent waits is the new one refused. Losing hints is tolerable because the DHT keeps the values.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// Errors of Submit. The message was not taken and done will not be called.
var (
	ErrClosed    = errors.New("dispatch: shutting down")            // the caller may try another replica
	ErrNoLane    = errors.New("dispatch: platform not configured")  // permanent until reconfigured
	ErrFull      = errors.New("dispatch: queue full")               // retry later
	ErrExpired   = errors.New("dispatch: message expired")          // drop
	ErrDeadToken = errors.New("dispatch: token is dead")            // drop the subscription
	ErrTarget    = errors.New("dispatch: target address not valid") // drop
)

// Config bounds and paces one lane. All lanes share it, except for what Lane overrides.
type Config struct {
	MaxWaiting      int           // messages waiting per lane
	MaxWaitingBytes int64         // and their data, in bytes
	InFlight        int           // concurrent sends per lane
	Window          time.Duration // how long a Normal message waits for others to merge with
	MaxLife         time.Duration // upper bound for a message's life
	SendTimeout     time.Duration // one Send
	Drain           time.Duration // how long Run goes on sending after its context is done
	Normal, Urgent  Rate          // per token; Urgent is for High and Call
	DeadFor         time.Duration // how long a dead token is remembered
	MaxDead         int           // dead tokens remembered per lane; the oldest is forgotten
}

// Rate is a token bucket.
type Rate struct {
	PerMinute int
	Burst     int
}

// DefaultConfig is what an unconfigured gateway uses.
func DefaultConfig() Config {
	return Config{
		MaxWaiting: 100_000, MaxWaitingBytes: 64 << 20, InFlight: 1000,
		Window: 2 * time.Second, MaxLife: 24 * time.Hour, SendTimeout: 10 * time.Second, Drain: 10 * time.Second,
		Normal: Rate{30, 10}, Urgent: Rate{120, 30},
		DeadFor: 24 * time.Hour, MaxDead: 100_000,
	}
}

// Constants of failure handling. They are not options: nobody could choose better ones without changing code.
const (
	BreakerFails  = 8                // consecutive failures of a host before it is left alone
	breakerMin    = time.Second      // first pause of a failing host; doubles
	breakerMax    = 10 * time.Second // longest: a call rings for about thirty
	RefusedPause  = time.Minute      // pause of a host that refuses our credentials
	hostRate      = time.Minute      // pause of a host that says 429 without a Retry-After (FCM's documents)
	hostRateMax   = 10 * time.Minute // to which that doubles
	tokenRate     = time.Minute      // the same for one token
	overtake      = time.Second      // how long an urgent message waits behind a less urgent one in flight
	backoffMin    = time.Second      // ceiling of the first full-jitter back-off; doubles
	backoffUrgent = 15 * time.Second
	backoffNormal = 5 * time.Minute
	maxCallbacks  = 64 // callbacks merged into one message before they are told "merged"
)

// Lane is one provider and what is particular to it.
type Lane struct {
	Provider provider.Provider
	// PerHost bounds concurrent sends to one host; 0 means Config.InFlight.
	PerHost int
	// Guard is how long a less urgent message waits after a more urgent one was delivered to the same token. APNs
	// keeps one message for a device that is offline: the newest. 0 for providers that keep all.
	Guard time.Duration
	// DeadFor overrides Config.DeadFor when not 0.
	DeadFor time.Duration
}

// Status is how a message ended.
type Status uint8

// Statuses.
const (
	Delivered Status = iota // the provider took it
	Merged                  // it lives on in another message
	Dropped                 // the provider refused it for good
	Dead                    // its token is dead
	Expired                 // its life ended first
	Shed                    // it made room for others
	Shutdown                // the gateway stopped before it could be sent
	Statuses  = 7           // how many there are
)

var statusNames = [Statuses]string{"delivered", "merged", "dropped", "dead_token", "expired", "shed", "shutdown"}

// String returns the name used in metrics and in the /v1 API.
func (s Status) String() string { return statusNames[min(s, Shutdown)] }

// Result is how a message ended and, if a provider had a say, its last word.
type Result struct {
	Status   Status
	Reason   provider.Reason
	Attempts int
}

// Death is the news that a token is dead.
type Death struct {
	Target provider.Target
	Reason provider.Reason
	At     time.Time // when the provider saw it die, or when it told us
}

// Observer is told what happens, in any goroutine and without locks held. It must not block.
type Observer interface {
	// Attempt is one Send.
	Attempt(provider string, p provider.Priority, out provider.Outcome, took time.Duration)
	// Finished is the end of a message, age after it was submitted.
	Finished(provider string, p provider.Priority, r Result, age time.Duration)
	// Died is told once per death.
	Died(Death)
}

// Deps are the dispatcher's collaborators. Observer and Log may be nil.
type Deps struct {
	Lanes    map[provider.Platform]Lane
	Observer Observer
	Log      *slog.Logger
}

// Dispatcher is safe for concurrent use.
type Dispatcher struct {
	lanes map[provider.Platform]*lane
	cfg   Config
}

// New starts nothing. Messages may be submitted before Run; they wait.
func New(cfg Config, deps Deps) *Dispatcher {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Observer == nil {
		deps.Observer = silent{}
	}
	d := &Dispatcher{lanes: make(map[provider.Platform]*lane), cfg: cfg}
	for platform, l := range deps.Lanes {
		d.lanes[platform] = newLane(cfg, l, deps)
	}
	return d
}

// Submit takes a message. done, if not nil, is called once when the message has ended, in any goroutine, and
// must not block; it is not called if Submit returns an error. m must not be changed afterwards.
func (d *Dispatcher) Submit(m *provider.Message, done func(Result)) error {
	l := d.lanes[m.Platform]
	if l == nil {
		return fmt.Errorf("%w: %v", ErrNoLane, m.Platform)
	}
	return l.submit(m, done)
}

// Check reports the error that Submit would return for a target, without sending anything.
func (d *Dispatcher) Check(m *provider.Message) error {
	l := d.lanes[m.Platform]
	if l == nil {
		return fmt.Errorf("%w: %v", ErrNoLane, m.Platform)
	}
	if l.Provider.Host(m) == "" {
		return ErrTarget
	}
	return nil
}

// Run sends until ctx is done, then drains for at most Config.Drain, and returns once every Send has.
func (d *Dispatcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range d.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Stats is a snapshot of one lane.
type Stats struct {
	Waiting  [provider.Priorities]int
	Oldest   [provider.Priorities]time.Duration // age of the oldest waiting message
	Bytes    int64
	InFlight int
	Paused   int // hosts that are being left alone
	Hosts    int // hosts with messages or recent trouble
	Dead     int // dead tokens remembered
}

// Stats returns a snapshot per provider name.
func (d *Dispatcher) Stats() map[string]Stats {
	out := make(map[string]Stats, len(d.lanes))
	for _, l := range d.lanes {
		out[l.Provider.Name()] = l.stats()
	}
	return out
}

type silent struct{}

func (silent) Attempt(string, provider.Priority, provider.Outcome, time.Duration) {}
func (silent) Finished(string, provider.Priority, Result, time.Duration)          {}
func (silent) Died(Death)                                                         {}
