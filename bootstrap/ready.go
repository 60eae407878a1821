package bootstrap

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jirani/jirani/dht/dhtnode"
)

// isolatedAfter is how long a node with entry points may know nobody and still count as ready: longer than their restart.
const isolatedAfter = 10 * time.Minute

var (
	errStuck    = errors.New("the node does not answer")
	errIsolated = errors.New("isolated: none of the entry points under bootstrap was reached for ten minutes")
)

// isolation remembers since when the node has known nobody.
type isolation struct {
	mu    sync.Mutex
	since time.Time // zero while somebody is known
}

// check notes whether somebody is known now and reports isolation that has lasted.
func (i *isolation) check(now time.Time, connected bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case connected:
		i.since = time.Time{}
	case i.since.IsZero():
		i.since = now
	case now.Sub(i.since) >= isolatedAfter:
		return errIsolated
	}
	return nil
}

// ready tells whether the node still does its work: it must answer for itself in time, and not lead newcomers to an island.
func (s *Server) ready(ctx context.Context) error {
	answered := make(chan bool, 1)
	go func() { // ends with the node's answer
		v4, v6 := s.node.Status()
		answered <- v4 == dhtnode.Connected || v6 == dhtnode.Connected
	}()
	select {
	case connected := <-answered:
		return s.isolation.check(time.Now(), connected || len(s.cfg.Bootstrap) == 0)
	case <-ctx.Done():
		return errStuck
	}
}
