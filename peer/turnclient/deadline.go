package turnclient

import (
	"sync"
	"time"
)

// deadline is a time after which calls that wait give up.
type deadline struct {
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	done  chan struct{} // closed when the time has come
}

func (d *deadline) init() { d.done = make(chan struct{}) }

// set begins anew; zero means never. Calls that wait already see a change of an unexpired deadline.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // its function runs or has run
	}
	d.timer = nil
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(d.done)
	default:
		done := d.done
		d.timer = time.AfterFunc(left, func() { close(done) })
	}
}

// expired is closed when the time has come.
func (d *deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}
