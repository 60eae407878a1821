package fake

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Script says how a simulator behaves beyond its vendor's rules.
type Script struct {
	// Latency is how long each answer takes.
	Latency time.Duration `yaml:"latency"`
	// Faults are looked at in order for each request that is otherwise in order; the first that applies answers.
	Faults []Fault `yaml:"faults"`
}

// Fault is an answer given instead of success. Conditions that are left out always hold.
type Fault struct {
	Token      string        `yaml:"token"`       // requests whose token contains this
	From       time.Duration `yaml:"from"`        // from this time after the start
	For        time.Duration `yaml:"for"`         // and for this long
	Every      int           `yaml:"every"`       // only every n-th request that meets the rest
	Times      int           `yaml:"times"`       // only the first n
	Status     int           `yaml:"status"`      // HTTP status; 0 means never answer
	Reason     string        `yaml:"reason"`      // vendor's word; the usual one for the status if empty
	RetryAfter time.Duration `yaml:"retry_after"` // header Retry-After
	Age        time.Duration `yaml:"age"`         // for 410 of APNs: how long ago the device went
}

// Validate reports the first thing wrong with the script.
func (s Script) Validate() error {
	if s.Latency < 0 || s.Latency > time.Minute {
		return fmt.Errorf("fake: latency %v: want 0 to 1m", s.Latency)
	}
	for i, f := range s.Faults {
		if f.Status != 0 && (f.Status < 300 || f.Status > 599) {
			return fmt.Errorf("fake: fault %d: status %d: want 300 to 599, or 0 for no answer", i+1, f.Status)
		}
		if f.From < 0 || f.For < 0 || f.Every < 0 || f.Times < 0 || f.RetryAfter < 0 || f.Age < 0 {
			return fmt.Errorf("fake: fault %d: negative number", i+1)
		}
	}
	return nil
}

// player applies a script.
type player struct {
	Script
	start time.Time
	mu    sync.Mutex
	met   []int // requests that met the conditions, per fault
}

func newPlayer(s Script) *player {
	return &player{Script: s, start: time.Now(), met: make([]int, len(s.Faults))}
}

// fault returns the fault that answers a request for token, nil if none does.
func (p *player) fault(token string) *Fault {
	since := time.Since(p.start)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.Faults {
		f := &p.Faults[i]
		if !strings.Contains(token, f.Token) || since < f.From || (f.For > 0 && since >= f.From+f.For) {
			continue
		}
		p.met[i]++
		if f.Every > 0 && p.met[i]%f.Every != 0 {
			continue
		}
		if f.Times > 0 && p.met[i] > f.Times {
			continue
		}
		return f
	}
	return nil
}

// headers returns what every fault's answer carries.
func (f *Fault) headers() map[string]string {
	if f.RetryAfter == 0 {
		return nil
	}
	return map[string]string{"retry-after": fmt.Sprint(int64((f.RetryAfter + time.Second - 1) / time.Second))}
}
