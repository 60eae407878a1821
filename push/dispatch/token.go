package dispatch

import (
	"time"

	"github.com/jirani/jirani/push/provider"
)

// tokens is what a lane knows about tokens. Nothing is kept about a token longer than it can matter, so that a
// gateway of millions of tokens holds only those of the last minute.
type tokens struct {
	normal, urgent bucket
	guard          time.Duration
	deadFor        time.Duration
	maxDead        int

	active map[provider.TokenHash]*active
	// paces in two generations: an entry not touched for a whole one has a full bucket and no guard, and goes.
	young, old map[provider.TokenHash]pace
	turned     time.Time
	held       map[provider.TokenHash]time.Time // provider said: not before
	dead       map[provider.TokenHash]death
	deadOrder  []deadEntry // by time of learning; entries revived since are skipped
}

// active is a token with a message in flight.
type active struct {
	n      int  // messages in flight
	parked list // waiting for it
}

// pace is a token's recent past: the virtual times of its two buckets, and what was last delivered.
type pace struct {
	normal, urgent time.Time // theoretical arrival times (GCRA)
	last           provider.Priority
	lastAt         time.Time
}

type death struct{ at, until time.Time }

type deadEntry struct {
	hash  provider.TokenHash
	until time.Time
}

func newTokens(cfg Config, l Lane) *tokens {
	t := &tokens{
		normal: newBucket(cfg.Normal), urgent: newBucket(cfg.Urgent), guard: l.Guard,
		deadFor: cfg.DeadFor, maxDead: cfg.MaxDead,
		active: make(map[provider.TokenHash]*active),
		young:  make(map[provider.TokenHash]pace),
		held:   make(map[provider.TokenHash]time.Time),
		dead:   make(map[provider.TokenHash]death),
	}
	if l.DeadFor > 0 {
		t.deadFor = l.DeadFor
	}
	return t
}

// bucket is a token bucket in the virtual scheduling form: one time per token instead of a level and a time.
type bucket struct {
	step  time.Duration // one message; 0 means no limit
	depth time.Duration // burst
}

func newBucket(r Rate) bucket {
	if r.PerMinute <= 0 {
		return bucket{}
	}
	step := time.Minute / time.Duration(r.PerMinute)
	return bucket{step: step, depth: step * time.Duration(max(r.Burst, 1)-1)}
}

// at returns when a message conforms, given the virtual time tat.
func (b bucket) at(tat time.Time) time.Time { return tat.Add(-b.depth) }

// spend returns the virtual time after one message at now.
func (b bucket) spend(tat, now time.Time) time.Time {
	if tat.Before(now) {
		tat = now
	}
	return tat.Add(b.step)
}

// generation is how long a pace is kept at least: until its buckets are full again and its guard is over.
func (t *tokens) generation() time.Duration {
	return max(t.normal.depth+t.normal.step, t.urgent.depth+t.urgent.step, t.guard, time.Second)
}

// turn drops the generation before last when it is due, and what held and dead no longer matters. It reports
// whether it was due.
func (t *tokens) turn(now time.Time) bool {
	if now.Sub(t.turned) < t.generation() {
		return false
	}
	t.old, t.young, t.turned = t.young, make(map[provider.TokenHash]pace), now
	for h, until := range t.held {
		if !now.Before(until) {
			delete(t.held, h)
		}
	}
	t.forget(now)
	return true
}

// forget drops tombstones that are over or beyond the bound.
func (t *tokens) forget(now time.Time) {
	for len(t.deadOrder) > 0 {
		e := t.deadOrder[0]
		d, ok := t.dead[e.hash]
		stale := !ok || !d.until.Equal(e.until)
		if !stale && now.Before(d.until) && len(t.dead) <= t.maxDead {
			return
		}
		if !stale {
			delete(t.dead, e.hash)
		}
		t.deadOrder = t.deadOrder[1:]
	}
}

func (t *tokens) pace(h provider.TokenHash) pace {
	if p, ok := t.young[h]; ok {
		return p
	}
	return t.old[h]
}

// wait returns until when a message to token h must wait for the token's sake, zero if it need not.
func (t *tokens) wait(h provider.TokenHash, p provider.Priority, now time.Time) time.Time {
	if until, ok := t.held[h]; ok && now.Before(until) {
		return until
	}
	past := t.pace(h)
	if t.guard > 0 && past.last > p && now.Before(past.lastAt.Add(t.guard)) {
		return past.lastAt.Add(t.guard)
	}
	b, tat := t.normal, past.normal
	if p.Urgent() {
		b, tat = t.urgent, past.urgent
	}
	if at := b.at(tat); now.Before(at) {
		return at
	}
	return time.Time{}
}

// sent spends from the token's bucket.
func (t *tokens) sent(h provider.TokenHash, p provider.Priority, now time.Time) {
	past := t.pace(h)
	if p.Urgent() {
		past.urgent = t.urgent.spend(past.urgent, now)
	} else {
		past.normal = t.normal.spend(past.normal, now)
	}
	t.young[h] = past
}

// delivered remembers what the provider may be keeping for the device.
func (t *tokens) delivered(h provider.TokenHash, p provider.Priority, now time.Time) {
	past := t.pace(h)
	if past.last <= p || !now.Before(past.lastAt.Add(t.guard)) {
		past.last, past.lastAt = p, now
		t.young[h] = past
	}
}

// isDead reports whether h is dead for a device that confirmed its token at registered (zero: unknown). A later
// confirmation revives it.
func (t *tokens) isDead(h provider.TokenHash, registered, now time.Time) bool {
	d, ok := t.dead[h]
	if !ok {
		return false
	}
	if !now.Before(d.until) || registered.After(d.at) {
		delete(t.dead, h)
		return false
	}
	return true
}

// kill notes that h died at, and reports whether that is news.
func (t *tokens) kill(h provider.TokenHash, at, now time.Time) bool {
	_, known := t.dead[h]
	d := death{at: at, until: now.Add(t.deadFor)}
	t.dead[h] = d
	t.deadOrder = append(t.deadOrder, deadEntry{h, d.until})
	t.forget(now)
	return !known
}
