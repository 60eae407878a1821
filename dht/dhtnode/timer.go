package dhtnode

import (
	"container/heap"
	"time"
)

// timer is one thing to do later, owned by whoever embeds it; it can be moved without allocation.
type timer struct {
	at    time.Time
	fire  func(now time.Time)
	index int // place in the heap plus one; 0 = not set
}

// timers is the engine's agenda: a heap by time.
type timers []*timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}
func (h *timers) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.index = len(*h)
}
func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = 0
	return t
}

// set makes t fire at the given time, whatever it was set to before.
func (h *timers) set(t *timer, at time.Time) {
	t.at = at
	if t.index > 0 {
		heap.Fix(h, t.index-1)
		return
	}
	heap.Push(h, t)
}

// setEarlier is set unless t fires before at anyway.
func (h *timers) setEarlier(t *timer, at time.Time) {
	if t.index == 0 || at.Before(t.at) {
		h.set(t, at)
	}
}

// stop takes t off the agenda.
func (h *timers) stop(t *timer) {
	if t.index > 0 {
		heap.Remove(h, t.index-1)
	}
}

// run fires everything due at now.
func (h *timers) run(now time.Time) {
	for len(*h) > 0 && !(*h)[0].at.After(now) {
		t := heap.Pop(h).(*timer)
		t.fire(now)
	}
}

// next returns when the next timer fires.
func (h timers) next() (time.Time, bool) {
	if len(h) == 0 {
		return time.Time{}, false
	}
	return h[0].at, true
}
