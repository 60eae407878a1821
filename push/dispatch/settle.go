package dispatch

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// submit takes a message in.
func (l *lane) submit(m *provider.Message, done func(Result)) (err error) {
	l.do(func(now time.Time) { err = l.take(m, done, now) })
	return err
}

func (l *lane) take(m *provider.Message, done func(Result), now time.Time) error {
	if l.draining || l.closed {
		return ErrClosed
	}
	if limit := now.Add(l.cfg.MaxLife); m.ExpiresAt.IsZero() || m.ExpiresAt.After(limit) {
		m.ExpiresAt = limit
	}
	if !now.Before(m.ExpiresAt) {
		return ErrExpired
	}
	if m.Priority == provider.High && m.Data.IsCall() {
		m.Priority = provider.Call
	}
	hash := m.Token.Hash()
	if l.tokens.isDead(hash, m.RegisteredAt, now) {
		return ErrDeadToken
	}
	name := l.Provider.Host(m)
	if name == "" {
		return ErrTarget
	}
	it := &item{msg: m, hash: hash, accepted: now, timer: -1, size: int64(m.Data.Size()) + int64(len(m.Token))}
	if key := m.Data.CoalesceKey(); key != "" {
		it.key = coalesceID{hash, key}
	}
	if done != nil {
		it.done = []func(Result){done}
	}
	if l.mergeInto(it) {
		return nil
	}
	if !l.makeRoom(m.Priority, it.size) {
		return ErrFull
	}
	it.host = l.hostNamed(name)
	it.host.items++
	l.wait(it)
	closes := now.Add(l.cfg.Window)
	if m.Priority.Urgent() || it.key.key == "" || l.cfg.Window <= 0 || !closes.Before(m.ExpiresAt) {
		l.makeReady(it)
	} else {
		l.delay(it, closes)
	}
	return nil
}

func (l *lane) hostNamed(name string) *host {
	h := l.hosts[name]
	if h == nil {
		h = newHost(name, l.PerHost)
		l.hosts[name] = h
	}
	return h
}

// wait enters a loose item into the accounts of what waits.
func (l *lane) wait(it *item) {
	l.age[it.msg.Priority].pushBack(it)
	l.waiting++
	l.bytes += it.size
	if it.key.key != "" {
		l.pending[it.key] = it
	}
}

// leave takes an item out of the accounts and out of whatever holds it.
func (l *lane) leave(it *item) {
	l.loosen(it)
	remove(it, byAge)
	l.waiting--
	l.bytes -= it.size
	if l.pending[it.key] == it {
		delete(l.pending, it.key)
	}
}

// makeRoom sheds until one more item of priority p and size fits, and reports whether it does.
func (l *lane) makeRoom(p provider.Priority, size int64) bool {
	for l.waiting+1 > l.cfg.MaxWaiting || l.bytes+size > l.cfg.MaxWaitingBytes {
		victim := l.oldestBelow(p)
		if victim == nil {
			return false
		}
		l.end(victim, Result{Status: Shed, Attempts: victim.attempts})
	}
	return true
}

// oldestBelow is the oldest item of the lowest priority that must yield to p, nil if none must.
func (l *lane) oldestBelow(p provider.Priority) *item {
	for q := provider.Normal; q < p || q == provider.Normal; q++ {
		if it := l.age[q].head; it != nil {
			return it
		}
	}
	return nil
}

// mergeInto merges it into a waiting item of the same key and reports whether it did. If the two are too large
// for one message, the older one stops waiting for more.
func (l *lane) mergeInto(it *item) bool {
	old := l.pending[it.key]
	if it.key.key == "" || old == nil {
		return false
	}
	m, ok := provider.Merge(old.msg, it.msg)
	if !ok {
		delete(l.pending, old.key)
		if old.state == delayed && old.attempts == 0 && old.link[byTurn].on == nil {
			l.loosen(old)
			l.makeReady(old)
		}
		return false
	}
	l.absorb(old, it, m)
	return true
}

// absorb makes old carry m, the merger of itself and it. Old may become more urgent by it, and moves up, unless a
// provider asked for time.
func (l *lane) absorb(old, it *item, m *provider.Message) {
	raised := m.Priority > old.msg.Priority
	l.bytes -= old.size
	old.msg, old.size = m, int64(m.Data.Size())+int64(len(m.Token))
	l.bytes += old.size
	if n := maxCallbacks - len(old.done); n > 0 {
		n = min(n, len(it.done))
		old.done, it.done = append(old.done, it.done[:n]...), it.done[n:]
	}
	if it.accepted.Before(old.accepted) {
		old.accepted = it.accepted
	}
	l.ended = append(l.ended, ending{it, Result{Status: Merged, Attempts: it.attempts}})
	if !raised {
		return
	}
	remove(old, byAge)
	l.age[m.Priority].pushBack(old)
	if !l.now.Before(old.notBefore) {
		l.loosen(old)
		l.makeReady(old)
	}
}

// launch sends an admitted item.
func (l *lane) launch(it *item, now time.Time) {
	l.leave(it)
	it.state = inFlight
	it.attempts++
	l.inFlight++
	it.host.inFlight++
	a := l.tokens.active[it.hash]
	if a == nil {
		a = &active{parked: list{kind: byTurn}}
		l.tokens.active[it.hash] = a
	}
	a.n++
	l.tokens.sent(it.hash, it.msg.Priority, now)
	ctx := l.sendCtx
	l.wg.Go(func() { l.send(ctx, it) })
}

// send makes one attempt and settles it. It ends with Provider.Send, which ends with its context.
func (l *lane) send(ctx context.Context, it *item) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.SendTimeout)
	out := l.Provider.Send(ctx, it.msg)
	cancel()
	l.obs.Attempt(l.Provider.Name(), it.msg.Priority, out, time.Since(start))
	l.do(func(now time.Time) { l.settle(it, out, now) })
}

// settle does what an outcome asks.
func (l *lane) settle(it *item, out provider.Outcome, now time.Time) {
	h := it.host
	l.inFlight--
	h.inFlight--
	it.late = false
	l.unpark(it.hash)
	result := Result{Reason: out.Reason, Attempts: it.attempts}
	switch out.Verdict {
	case provider.Delivered:
		h.succeeded()
		l.tokens.delivered(it.hash, it.msg.Priority, now)
		result.Status = Delivered
		l.close(it, result)
	case provider.DropMessage:
		h.succeeded()
		result.Status = Dropped
		l.close(it, result)
	case provider.DropToken:
		h.succeeded()
		l.bury(it, out, result, now)
	default:
		l.retry(it, out, now)
	}
	l.rest(h, now)
	l.enlist(h)
	l.forget(h)
}

// bury ends an item whose token is dead, unless the device confirmed the token after it is said to have died:
// then this is old news, and the message gets another try later.
func (l *lane) bury(it *item, out provider.Outcome, result Result, now time.Time) {
	at := out.DeadSince
	if at.IsZero() {
		at = now
	}
	if it.msg.RegisteredAt.After(at) && it.attempts < 3 {
		l.again(it, now.Add(backoff(it)), now)
		return
	}
	if l.tokens.kill(it.hash, at, now) {
		l.deaths = append(l.deaths, Death{Target: it.msg.Target, Reason: out.Reason, At: at})
	}
	result.Status = Dead
	l.close(it, result)
}

// retry arranges for another attempt.
func (l *lane) retry(it *item, out provider.Outcome, now time.Time) {
	h := it.host
	if out.Verdict == provider.Refused {
		if !h.refused {
			l.log.Error("provider refuses our credentials", "status", out.Status, "reason", string(out.Reason))
		}
		h.refused = true
		h.rest(now, max(out.After, RefusedPause))
		l.again(it, now, now)
		return
	}
	switch out.Scope {
	case provider.ScopeHost:
		if out.After == 0 {
			out.After = min(hostRate<<min(h.throttled, 10), hostRateMax)
		}
		h.throttled++
		h.rest(now, out.After)
		l.again(it, now, now)
	case provider.ScopeToken:
		h.succeeded()
		if out.After == 0 {
			out.After = tokenRate
		}
		l.tokens.held[it.hash] = now.Add(out.After)
		l.again(it, now.Add(out.After), now)
	default:
		h.failed(now)
		l.again(it, now.Add(out.After+backoff(it)), now)
	}
}

// backoff is a full-jitter exponential delay (uniform between nothing and a ceiling that doubles).
func backoff(it *item) time.Duration {
	ceiling := backoffNormal
	if it.msg.Priority.Urgent() {
		ceiling = backoffUrgent
	}
	return rand.N(min(backoffMin<<min(it.attempts-1, 20), ceiling))
}

// again puts an item that was in flight back, to be sent not before at. One of the same key that has come since
// takes it up.
func (l *lane) again(it *item, at, now time.Time) {
	if newer := l.pending[it.key]; it.key.key != "" && newer != nil {
		if m, ok := provider.Merge(it.msg, newer.msg); ok {
			l.absorb(newer, it, m)
			newer.attempts = max(newer.attempts, it.attempts)
			it.host.items--
			return
		}
	}
	it.state = loose
	it.notBefore = at
	taken := l.pending[it.key]
	l.wait(it)
	if it.key.key != "" && taken != nil {
		l.pending[it.key] = taken // the newer one goes on merging
	}
	if at.After(now) {
		l.delay(it, at)
	} else {
		l.makeReady(it)
	}
}

// close ends an item that was in flight.
func (l *lane) close(it *item, r Result) {
	it.host.items--
	l.ended = append(l.ended, ending{it, r})
}

// end ends a waiting item.
func (l *lane) end(it *item, r Result) {
	l.leave(it)
	l.close(it, r)
	l.forget(it.host)
}

// forget drops a host that is idle.
func (l *lane) forget(h *host) {
	if h.idle(l.now) && l.hosts[h.name] == h {
		delete(l.hosts, h.name)
	}
}
