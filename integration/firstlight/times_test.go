//go:build linux

package firstlight

import (
	"sync"
	"time"
)

// times are how long each step of each world took.
var times struct {
	mu   sync.Mutex
	took map[string]map[string]time.Duration // world → step
}

func took(world, step string, d time.Duration) {
	times.mu.Lock()
	defer times.mu.Unlock()
	if times.took == nil {
		times.took = map[string]map[string]time.Duration{}
	}
	if times.took[world] == nil {
		times.took[world] = map[string]time.Duration{}
	}
	times.took[world][step] = d
}
