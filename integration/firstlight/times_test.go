//go:build linux

package firstlight

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var timesFlag = flag.String("times", "", "write the steps' times to this file, as a Markdown table; medians with -count above 1")

// times of all runs of this process.
var times stopwatch

// stopwatch notes how long the steps took in each world. It is safe for concurrent use.
type stopwatch struct {
	mu    sync.Mutex
	steps []string                              // in the order they first ended
	took  map[string]map[string][]time.Duration // step → world → one per run
}

func (s *stopwatch) note(world, step string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.took == nil {
		s.took = map[string]map[string][]time.Duration{}
	}
	if s.took[step] == nil {
		s.took[step] = map[string][]time.Duration{}
		s.steps = append(s.steps, step)
	}
	s.took[step][world] = append(s.took[step][world], d)
}

// table has a row per step and a column per world, in seconds.
func (s *stopwatch) table(worlds []world) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	b.WriteString("| step |")
	for _, w := range worlds {
		fmt.Fprintf(&b, " %s |", w.topology.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(worlds)) + "\n")
	for _, step := range s.steps {
		fmt.Fprintf(&b, "| %s |", step)
		for _, w := range worlds {
			fmt.Fprintf(&b, " %s |", seconds(s.took[step][w.topology.Name]))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// seconds is the median, or a dash for none.
func seconds(all []time.Duration) string {
	if len(all) == 0 {
		return "–"
	}
	sorted := slices.Sorted(slices.Values(all))
	return fmt.Sprintf("%.2f", sorted[len(sorted)/2].Seconds())
}

// report writes the table to the file that the flag names.
func (s *stopwatch) report() error {
	if *timesFlag == "" {
		return nil
	}
	return os.WriteFile(*timesFlag, []byte(s.table(worlds())), 0o644)
}

func TestTable(t *testing.T) {
	var s stopwatch
	for _, d := range []time.Duration{3, 1, 2} {
		s.note("open", "message", d*time.Second)
	}
	s.note("lan-offline", "call", 1500*time.Millisecond)
	got := s.table([]world{worlds()[0], worlds()[5]})
	want := "| step | open | lan-offline |\n|---|---|---|\n| message | 2.00 | – |\n| call | – | 1.50 |\n"
	if got != want {
		t.Errorf("table = %q, want %q", got, want)
	}
}
