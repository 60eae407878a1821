package dispatch

import (
	"math/rand/v2"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// host is one place messages go to, and the memory of how it behaved. Fields belong to the lane's mutex.
type host struct {
	name     string
	ready    [provider.Priorities]list
	listed   [provider.Priorities]bool // in lane.runnable of that priority
	limit    int
	inFlight int
	items    int // items that refer to it, in flight included

	fails     int       // consecutive failures
	opened    int       // times in a row it was left alone for failing
	until     time.Time // left alone until then
	throttled int       // times in a row it said 429 without a time
	refused   bool      // the last word was Refused; logged once
}

func newHost(name string, limit int) *host {
	h := &host{name: name, limit: limit}
	for p := range h.ready {
		h.ready[p].kind = byTurn
	}
	return h
}

// free reports whether a message of priority p may be sent now. A quarter of the room is kept from Normal ones;
// after trouble there is room for one message at a time.
func (h *host) free(p provider.Priority, now time.Time) bool {
	if now.Before(h.until) {
		return false
	}
	if h.opened > 0 {
		return h.inFlight == 0
	}
	return h.inFlight < share(h.limit, p)
}

// share is the part of limit that messages of priority p may fill.
func share(limit int, p provider.Priority) int {
	if p.Urgent() || limit < 4 {
		return limit
	}
	return limit - limit/4
}

// idle reports that the host can be forgotten: a stranger may name any number of hosts that fail.
func (h *host) idle(now time.Time) bool {
	return h.items == 0 && !now.Before(h.until)
}

// succeeded notes an answer that shows the host alive.
func (h *host) succeeded() { h.fails, h.opened, h.throttled, h.refused = 0, 0, 0, false }

// failed notes a failure and leaves the host alone when it was one too many.
func (h *host) failed(now time.Time) {
	if now.Before(h.until) {
		return // sent before the pause began
	}
	h.fails++
	if h.fails < BreakerFails && h.opened == 0 {
		return
	}
	pause := min(breakerMin<<min(h.opened, 10), breakerMax)
	h.opened++
	h.pause(now, pause/2+rand.N(pause/2))
}

// rest leaves the host alone for d at least, and lets one message probe it afterwards.
func (h *host) rest(now time.Time, d time.Duration) {
	h.opened = max(h.opened, 1)
	h.pause(now, d)
}

// pause leaves the host alone for d at least.
func (h *host) pause(now time.Time, d time.Duration) {
	if until := now.Add(d); until.After(h.until) {
		h.until = until
	}
}
