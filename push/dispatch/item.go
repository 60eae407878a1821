package dispatch

import (
	"container/heap"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// item is a message in a lane. All fields belong to the lane's mutex, except that msg's target is read while
// the item is in flight, when nobody writes it.
type item struct {
	msg       *provider.Message
	hash      provider.TokenHash
	key       coalesceID
	host      *host
	accepted  time.Time // when the oldest part of it was submitted
	notBefore time.Time // what a provider asked for
	done      []func(Result)
	size      int64
	attempts  int
	late      bool // may overtake another message to its token that hangs in flight

	state state
	link  [2]links
	timer int // index in the lane's timers, -1 if not there
	at    time.Time
}

type coalesceID struct {
	token provider.TokenHash
	key   string
}

// state says which structure holds the item, besides the age list that holds every waiting one.
type state uint8

const (
	loose    state = iota // none: being moved, or ended
	delayed               // in timers
	ready                 // in its host's ready list
	parked                // in its token's parked list
	inFlight              // with the provider
)

// list is an intrusive doubly linked list. An item can be in one list of each kind.
type list struct {
	kind       int // byAge or byTurn
	head, tail *item
	n          int
}

const (
	byAge  = 0
	byTurn = 1
)

type links struct {
	prev, next *item
	on         *list
}

func (l *list) pushBack(it *item) {
	it.link[l.kind] = links{prev: l.tail, on: l}
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.link[l.kind].next = it
	}
	l.tail = it
	l.n++
}

// remove takes it out of the list of this kind that holds it, if any.
func remove(it *item, kind int) {
	k := it.link[kind]
	if k.on == nil {
		return
	}
	if k.prev == nil {
		k.on.head = k.next
	} else {
		k.prev.link[kind].next = k.next
	}
	if k.next == nil {
		k.on.tail = k.prev
	} else {
		k.next.link[kind].prev = k.prev
	}
	k.on.n--
	it.link[kind] = links{}
}

// timers orders delayed items by item.at.
type timers []*item

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = i, j
}

// Push and Pop are for container/heap.
func (t *timers) Push(x any) { it := x.(*item); it.timer = len(*t); *t = append(*t, it) }
func (t *timers) Pop() any {
	old := *t
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	it.timer = -1
	return it
}

func (t *timers) add(it *item, at time.Time) { it.at = at; heap.Push(t, it) }

func (t *timers) remove(it *item) {
	if it.timer >= 0 {
		heap.Remove(t, it.timer)
	}
}
