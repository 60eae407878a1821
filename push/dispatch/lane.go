package dispatch

import (
	"container/heap"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// lane is one provider's queue. Everything below mu belongs to it; locked sections only move pointers, sends and
// callbacks happen outside.
type lane struct {
	Lane
	cfg  Config
	obs  Observer
	log  *slog.Logger
	wake chan struct{} // capacity 1: the run loop must look at its timer again
	wg   sync.WaitGroup

	mu       sync.Mutex
	now      time.Time                 // of the current locked section
	age      [provider.Priorities]list // every waiting item, oldest first
	waiting  int
	bytes    int64
	pending  map[coalesceID]*item // waiting items that may be merged into
	timers   timers
	hosts    map[string]*host
	runnable [provider.Priorities][]*host // hosts with ready items, in turn
	paused   map[*host]struct{}           // hosts to wake when their pause is over
	hostWake time.Time                    // the first of them, or earlier
	tokens   *tokens
	inFlight int
	sendCtx  context.Context // nil while not running; ends when draining is over
	draining bool
	closed   bool
	ended    []ending // to be told once mu is free
	deaths   []Death
}

// ending is the news of an item's end.
type ending struct {
	it     *item
	result Result
}

func newLane(cfg Config, l Lane, deps Deps) *lane {
	if l.PerHost <= 0 {
		l.PerHost = cfg.InFlight
	}
	ln := &lane{
		Lane: l, cfg: cfg, obs: deps.Observer, log: deps.Log.With("provider", l.Provider.Name()),
		wake:    make(chan struct{}, 1),
		pending: make(map[coalesceID]*item),
		hosts:   make(map[string]*host),
		paused:  make(map[*host]struct{}),
		tokens:  newTokens(cfg, l),
	}
	for p := range ln.age {
		ln.age[p].kind = byAge
	}
	return ln
}

// do runs f under the lock, sends what became sendable, and tells the news.
func (l *lane) do(f func(now time.Time)) {
	now := time.Now()
	l.mu.Lock()
	l.now = now
	before := l.next()
	f(now)
	l.pump(now)
	ended, deaths := l.ended, l.deaths
	l.ended, l.deaths = nil, nil
	poke := l.next() != before || (l.draining && l.waiting == 0 && l.inFlight == 0)
	l.mu.Unlock()
	if poke {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	l.tell(ended, deaths, now)
}

func (l *lane) tell(ended []ending, deaths []Death, now time.Time) {
	for _, d := range deaths {
		l.obs.Died(d)
	}
	for _, e := range ended {
		l.obs.Finished(l.Provider.Name(), e.it.msg.Priority, e.result, now.Sub(e.it.accepted))
		for _, done := range e.it.done {
			done(e.result)
		}
	}
}

// run is the lane's clock: it wakes delayed items and paused hosts, and ends when the lane has drained.
func (l *lane) run(ctx context.Context) {
	sends, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	l.do(func(now time.Time) { l.sendCtx, l.tokens.turned = sends, now })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(l.untilNext())
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		}
		l.do(l.fire)
	}
	l.drain(timer)
	l.do(func(time.Time) { l.closed, l.sendCtx = true, nil })
	stop()
	l.wg.Wait()
	l.do(l.giveUp)
}

// drain goes on sending for Config.Drain, or until nothing waits. Windows, guards and rates no longer delay.
func (l *lane) drain(timer *time.Timer) {
	l.do(func(now time.Time) {
		l.draining = true
		for len(l.timers) > 0 {
			it := heap.Pop(&l.timers).(*item)
			if it.link[byTurn].on == nil { // not parked
				l.makeReady(it)
			}
		}
	})
	end := time.Now().Add(l.cfg.Drain)
	for {
		l.mu.Lock()
		empty := l.waiting == 0 && l.inFlight == 0
		l.mu.Unlock()
		left := time.Until(end)
		if empty || left <= 0 {
			return
		}
		timer.Reset(min(left, l.untilNext()))
		select {
		case <-l.wake:
		case <-timer.C:
		}
		l.do(l.fire)
	}
}

// giveUp ends everything that still waits.
func (l *lane) giveUp(now time.Time) {
	for p := range l.age {
		for it := l.age[p].head; it != nil; it = l.age[p].head {
			l.end(it, Result{Status: Shutdown})
		}
	}
}

// longNap bounds the timer, so that generations of token paces turn even when nothing else happens.
const longNap = 30 * time.Second

func (l *lane) untilNext() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.next()
	if next.IsZero() {
		return longNap
	}
	return min(max(time.Until(next), 0), longNap)
}

// next is the time of the next thing to do, zero if none.
func (l *lane) next() time.Time {
	var t time.Time
	if len(l.timers) > 0 {
		t = l.timers[0].at
	}
	if !l.hostWake.IsZero() && (t.IsZero() || l.hostWake.Before(t)) {
		t = l.hostWake
	}
	return t
}

// fire does everything that is due.
func (l *lane) fire(now time.Time) {
	if l.tokens.turn(now) {
		l.sweep(now)
	}
	for len(l.timers) > 0 && !now.Before(l.timers[0].at) {
		it := heap.Pop(&l.timers).(*item)
		l.loosen(it) // a parked one is in its token's list too
		l.makeReady(it)
	}
	if !l.hostWake.IsZero() && !now.Before(l.hostWake) {
		l.wakeHosts(now)
	}
}

// wakeHosts takes the hosts whose pause is over back into the turn, and forgets those with nothing to send.
func (l *lane) wakeHosts(now time.Time) {
	l.hostWake = time.Time{}
	for h := range l.paused {
		if now.Before(h.until) {
			l.wakeAt(h.until)
			continue
		}
		delete(l.paused, h)
		l.forget(h)
		l.enlist(h)
	}
}

func (l *lane) wakeAt(t time.Time) {
	if l.hostWake.IsZero() || t.Before(l.hostWake) {
		l.hostWake = t
	}
}

// rest makes a paused host wait in l.paused.
func (l *lane) rest(h *host, now time.Time) {
	if now.Before(h.until) {
		l.paused[h] = struct{}{}
		l.wakeAt(h.until)
	}
}

// sweep ends the messages whose life is over while they wait for a host or a token.
func (l *lane) sweep(now time.Time) {
	for p := range l.age {
		for it := l.age[p].head; it != nil; {
			next := it.link[byAge].next
			if !now.Before(it.msg.ExpiresAt) {
				l.end(it, Result{Status: Expired, Attempts: it.attempts})
			}
			it = next
		}
	}
}

// makeReady puts a loose item at the end of its host's queue.
func (l *lane) makeReady(it *item) {
	it.state = ready
	it.host.ready[it.msg.Priority].pushBack(it)
	l.enlist(it.host)
}

// delay keeps a loose item until at.
func (l *lane) delay(it *item, at time.Time) {
	if !at.Before(it.msg.ExpiresAt) {
		l.end(it, Result{Status: Expired, Attempts: it.attempts})
		return
	}
	it.state = delayed
	l.timers.add(it, at)
}

// loosen takes a waiting item out of whatever holds it, but for the age list.
func (l *lane) loosen(it *item) {
	l.timers.remove(it)
	remove(it, byTurn)
	it.state = loose
}

// enlist puts h in turn for every priority it has ready items of.
func (l *lane) enlist(h *host) {
	for p := range h.ready {
		if h.ready[p].n > 0 && !h.listed[p] {
			h.listed[p] = true
			l.runnable[p] = append(l.runnable[p], h)
		}
	}
}

// pump sends while there is something that may be sent.
func (l *lane) pump(now time.Time) {
	if l.sendCtx == nil {
		return
	}
	for p := provider.Call; ; p-- {
		for l.inFlight < share(l.cfg.InFlight, p) {
			it := l.pick(p, now)
			if it == nil {
				break
			}
			l.launch(it, now)
		}
		if p == provider.Normal {
			return
		}
	}
}

// pick takes the next sendable item of priority p, nil if there is none. A host found busy or paused leaves the
// turn; whatever frees it enlists it again.
func (l *lane) pick(p provider.Priority, now time.Time) *item {
	for len(l.runnable[p]) > 0 {
		h := l.runnable[p][0]
		if !h.free(p, now) || h.ready[p].n == 0 {
			l.runnable[p] = l.runnable[p][1:]
			h.listed[p] = false
			continue
		}
		it := h.ready[p].head
		l.loosen(it)
		if h.ready[p].n > 0 && len(l.runnable[p]) > 1 { // to the back of the turn
			l.runnable[p] = append(l.runnable[p][1:], h)
		}
		if l.admit(it, now) {
			return it
		}
	}
	return nil
}

// admit makes the checks at the moment of sending, in the order of the package comment. It reports false when
// it has ended the item or put it elsewhere.
func (l *lane) admit(it *item, now time.Time) bool {
	m := it.msg
	switch {
	case !now.Before(m.ExpiresAt):
		l.end(it, Result{Status: Expired, Attempts: it.attempts})
		return false
	case l.tokens.isDead(it.hash, m.RegisteredAt, now):
		l.end(it, Result{Status: Dead, Reason: provider.ReasonUnregistered, Attempts: it.attempts})
		return false
	}
	if a := l.tokens.active[it.hash]; a != nil && !it.late {
		l.park(it, a, now)
		return false
	}
	if l.draining {
		return true
	}
	if at := l.tokens.wait(it.hash, m.Priority, now); !at.IsZero() {
		l.delay(it, at)
		return false
	}
	return true
}

// park keeps an item until the message in flight to its token is over; an urgent one only for so long.
func (l *lane) park(it *item, a *active, now time.Time) {
	it.state = parked
	if it.msg.Priority.Urgent() {
		it.late = true // by the time the timer fires; a normal end of the other clears it
		it.state = delayed
		l.timers.add(it, now.Add(overtake))
	}
	a.parked.pushBack(it)
}

// unpark makes the items that waited for token h ready.
func (l *lane) unpark(h provider.TokenHash) {
	a := l.tokens.active[h]
	if a.n--; a.n > 0 {
		return
	}
	delete(l.tokens.active, h)
	for it := a.parked.head; it != nil; it = a.parked.head {
		l.loosen(it)
		it.late = false
		l.makeReady(it)
	}
}

func (l *lane) stats() Stats {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Bytes: l.bytes, InFlight: l.inFlight, Hosts: len(l.hosts), Dead: len(l.tokens.dead)}
	for p := range l.age {
		s.Waiting[p] = l.age[p].n
		if it := l.age[p].head; it != nil {
			s.Oldest[p] = now.Sub(it.accepted)
		}
	}
	for _, h := range l.hosts {
		if now.Before(h.until) {
			s.Paused++
		}
	}
	return s
}
