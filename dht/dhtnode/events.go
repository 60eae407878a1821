package dhtnode

import (
	"context"
	"sync"
)

// maxEvents bounds the callbacks that wait for their turn; above it new ones are lost and counted.
const maxEvents = 1 << 17

// dispatcher runs callbacks one after another in a goroutine of its own, in the order they were posted, outside of the
// node's lock.
type dispatcher struct {
	mu      sync.Mutex
	queue   []func()
	dropped uint64
	wake    chan struct{}
}

// post queues f. It never waits.
func (d *dispatcher) post(f func()) {
	d.mu.Lock()
	if len(d.queue) < maxEvents {
		d.queue = append(d.queue, f)
	} else {
		d.dropped++
	}
	d.mu.Unlock()
	poke(d.wake)
}

func (d *dispatcher) state() (waiting int, dropped uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue), d.dropped
}

// run works until ctx is done; callbacks still waiting then are dropped.
func (d *dispatcher) run(ctx context.Context) {
	var batch []func()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		d.mu.Lock()
		batch, d.queue = d.queue, batch[:0]
		d.mu.Unlock()
		for i, f := range batch {
			if ctx.Err() != nil {
				return
			}
			f()
			batch[i] = nil
		}
	}
}
