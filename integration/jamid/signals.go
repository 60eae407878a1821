package jamid

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Signal is one D-Bus signal of the daemon.
type Signal struct {
	At     time.Time // of its arrival
	Member string    // its name without the interface: registrationStateChanged
	Args   []any     // as godbus decodes them
}

// Text returns argument i if it is a string, else "".
func (s Signal) Text(i int) string {
	if i >= len(s.Args) {
		return ""
	}
	text, _ := s.Args[i].(string)
	return text
}

// Int returns argument i if it is an integer of 32 bits, else -1.
func (s Signal) Int(i int) int {
	if i >= len(s.Args) {
		return -1
	}
	switch n := s.Args[i].(type) {
	case int32:
		return int(n)
	case uint32:
		return int(n)
	}
	return -1
}

// Map returns argument i if it is a dictionary of strings, else nil.
func (s Signal) Map(i int) map[string]string {
	if i >= len(s.Args) {
		return nil
	}
	m, _ := s.Args[i].(map[string]string)
	return m
}

// Mark is a place in the record: signals after it are those that came later.
type Mark int

// Signals records what the daemon says, and lets any number of goroutines wait for it. It is safe for concurrent use.
type Signals struct {
	log io.Writer // a line per signal; may be nil

	mu    sync.Mutex
	all   []Signal
	more  chan struct{} // closed and replaced at each signal
	ended error         // why no signal will come any more; nil while one may
}

func newSignals(log io.Writer) *Signals {
	return &Signals{log: log, more: make(chan struct{})}
}

// Mark returns the end of the record.
func (s *Signals) Mark() Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Mark(len(s.all))
}

// Since returns what came after mark.
func (s *Signals) Since(mark Mark) []Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Signal(nil), s.all[mark:]...)
}

// Wait returns the first signal named member after mark that match accepts; a nil match accepts all. When ctx ends, the
// error says what was waited for and how many of the name came by; when the daemon ends, it is a [Died].
func (s *Signals) Wait(ctx context.Context, mark Mark, member string, match func(Signal) bool) (Signal, error) {
	next, seen := int(mark), 0
	for {
		s.mu.Lock()
		fresh, more, ended := s.all[next:], s.more, s.ended
		next = len(s.all)
		s.mu.Unlock()
		for _, sig := range fresh {
			if sig.Member != member {
				continue
			}
			if match == nil || match(sig) {
				return sig, nil
			}
			seen++
		}
		if ended != nil {
			return Signal{}, ended
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Signal{}, fmt.Errorf("jamid: no fitting %s (%d others of it came): %w", member, seen, ctx.Err())
		}
	}
}

// changed returns a channel that is closed at the next signal.
func (s *Signals) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.more
}

// end wakes everybody who waits for what will not come, because of err.
func (s *Signals) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.wake()
}

// wake is called with the lock held.
func (s *Signals) wake() {
	close(s.more)
	s.more = make(chan struct{})
}

func (s *Signals) add(sig Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, sig)
	s.wake()
	if s.log != nil {
		fmt.Fprintf(s.log, "%s %s %.600q\n", sig.At.Format("15:04:05.000000"), sig.Member, fmt.Sprint(sig.Args...))
	}
}
