package dhtinterop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// churn is a network in which nodes vanish without a word and others come. The first of each kind stays: others enter by the very first, and
// it can be seen what a long life does to a node.
type churn struct {
	t       *testing.T
	network uint32
	members []*member
	stay    []*member
	dead    []*member
	count   int // members ever
	round   int
	begin   time.Time

	memory             map[*member][]usage // of those who stay, a sample a round
	joins, gets, again int
	slowJoin, slowGet  time.Duration
}

// usage is what a process takes, in KiB. heap is 0 for theirs.
type usage struct{ rss, heap int }

// setting reads how a run differs from the short one of CI.
func setting[T any](t *testing.T, name string, def T, parse func(string) (T, error)) T {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	v, err := parse(s)
	check(t, err)
	return v
}

func number(s string) (n int, err error) {
	_, err = fmt.Sscan(s, &n)
	return n, err
}

// join starts a member of one kind.
func (c *churn) join(ours bool) *member {
	entry, start := "", newTheirMember
	if len(c.members) > 0 {
		entry = c.members[0].addr
	}
	if ours {
		start = newOurMember
	}
	c.count++
	began := time.Now()
	m := start(c.t, c.count, c.network, entry)
	c.members = append(c.members, m)
	if entry != "" {
		eventually(c.t, m.name+" to be connected", func() bool { return c.good(m) > 0 })
		c.joins++
		c.slowJoin = max(c.slowJoin, time.Since(began))
	}
	return m
}

func (c *churn) good(m *member) int {
	n, err := m.good()
	check(c.t, err)
	return n
}

// any returns a random member of a kind, one that may go if mortal is set; nil if there is none.
func (c *churn) any(ours, mortal bool) *member {
	fit := slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool {
		return m.ours != ours || mortal && slices.Contains(c.stay, m)
	})
	if len(fit) == 0 {
		return nil
	}
	return fit[rand.IntN(len(fit))]
}

// replace lets one member of each kind vanish, and as many come. It returns those.
func (c *churn) replace() (fresh []*member) {
	var gone []bool
	for _, ours := range []bool{true, false} {
		if m := c.any(ours, true); m != nil {
			m.kill()
			c.members = slices.DeleteFunc(c.members, func(o *member) bool { return o == m })
			c.dead, gone = append(c.dead, m), append(gone, ours)
		}
	}
	for _, ours := range gone {
		fresh = append(fresh, c.join(ours))
	}
	return fresh
}

// mingle has everybody look for a few places. Nodes that never ask anything learn of each other too slowly for a network of seconds.
func (c *churn) mingle() {
	for i := range 4 {
		for _, m := range c.members {
			_, err := m.get(fmt.Sprintf("mingle-%d", i))
			check(c.t, err)
		}
	}
}

// works has one member of each kind put. The newcomers and two others look for both, and for what was put at the start.
func (c *churn) works(fresh []*member) {
	seekers := slices.Clone(fresh)
	for _, ours := range []bool{true, false} {
		if m := c.any(ours, false); m != nil && !slices.Contains(seekers, m) {
			seekers = append(seekers, m)
		}
	}
	for _, ours := range []bool{true, false} {
		c.found(fmt.Sprintf("lasting-%v", ours), "at the start", seekers)
		putter := c.any(ours, false)
		if putter == nil {
			continue
		}
		key := fmt.Sprintf("churn-%d-%v", c.round, ours)
		if err := putter.put(key, "word", false); err != nil {
			c.t.Errorf("round %d: put by %s: %v\n%s", c.round, putter.name, err, c.autopsy(key))
			continue
		}
		c.found(key, "by "+putter.name, seekers)
	}
}

// found fails if one of seekers does not find what was put at key. Who misses it tries again: a node that has just come may meet more of the
// dead than of the living.
func (c *churn) found(key, by string, seekers []*member) {
	type result struct {
		m     *member
		tries int
		took  time.Duration
		err   error
	}
	results := make(chan result, len(seekers))
	var wg sync.WaitGroup
	for _, m := range seekers {
		wg.Go(func() {
			r := result{m: m}
			for began := time.Now(); ; <-time.After(time.Second) {
				words, err := m.get(key)
				r.tries, r.took = r.tries+1, time.Since(began)
				if slices.Contains(words, "word") {
					break
				}
				if r.took > patience {
					r.err = errors.Join(errors.New("not found"), err)
					break
				}
			}
			results <- r
		})
	}
	wg.Wait()
	close(results)
	for r := range results {
		c.gets++
		c.slowGet = max(c.slowGet, r.took)
		if r.tries > 1 {
			c.again++
			c.t.Logf("round %d: %s looked for %s, put %s, %d times in %v\n%s", c.round, r.m.name, key, by, r.tries, r.took, c.autopsy(key))
		}
		if r.err != nil {
			c.t.Errorf("round %d: %s did not find %s, put %s: %v", c.round, r.m.name, key, by, r.err)
		}
	}
}

// look fails if anybody is alone, and notes memory.
func (c *churn) look() {
	line := ""
	for _, m := range c.members {
		good := c.good(m)
		if good == 0 {
			c.t.Errorf("round %d: %s is alone\n%s", c.round, m.name, c.autopsy("lasting-true"))
		}
		var u usage
		var err error
		u.rss, err = m.rss()
		check(c.t, err)
		line += fmt.Sprintf(", %s %d good %d KiB", m.name, good, u.rss)
		if !slices.Contains(c.stay, m) {
			continue
		}
		if m.heap != nil {
			u.heap, err = m.heap()
			check(c.t, err)
			line += fmt.Sprintf(" (heap %d)", u.heap)
		}
		c.memory[m] = append(c.memory[m], u)
	}
	c.t.Logf("%v, round %d%s", time.Since(c.begin).Round(time.Second), c.round, line)
}

// flat fails if the member of ours that stayed takes much more at the end than after the first quarter.
func (c *churn) flat() {
	for m, samples := range c.memory {
		early, late := samples[len(samples)/4], samples[len(samples)-1]
		c.t.Logf("%s: %d KiB resident after a quarter, %d at the end; heap %d and %d", m.name, early.rss, late.rss, early.heap, late.heap)
		if m.ours && (late.rss > early.rss*3/2+4<<10 || late.heap > early.heap*3/2+1<<10) {
			c.t.Errorf("%s: memory grew from %+v to %+v KiB", m.name, early, late)
		}
	}
}

// TestChurn is short in CI. DHTINTEROP_CHURN says for how long instead (30m), DHTINTEROP_PACE how long a round lasts at least (40s),
// DHTINTEROP_OURS and DHTINTEROP_THEIRS how many nodes of each kind there are: with none of ours it shows what the reference makes of the same.
func TestChurn(t *testing.T) {
	theirs.Require(t)
	length := setting(t, "DHTINTEROP_CHURN", 40*time.Second, time.ParseDuration)
	pace := setting(t, "DHTINTEROP_PACE", 10*time.Second, time.ParseDuration)
	ours, others := setting(t, "DHTINTEROP_OURS", 5, number), setting(t, "DHTINTEROP_THEIRS", 5, number)
	c := &churn{t: t, network: freshNetwork(), begin: time.Now(), memory: make(map[*member][]usage)}
	for i := range max(ours, others) {
		for _, kind := range []struct {
			ours  bool
			count int
		}{{true, ours}, {false, others}} {
			if i >= kind.count {
				continue
			}
			if m := c.join(kind.ours); i == 0 {
				c.stay = append(c.stay, m)
			}
		}
	}
	c.mingle()
	for _, ours := range []bool{true, false} {
		check(t, c.stay[rand.IntN(len(c.stay))].put(fmt.Sprintf("lasting-%v", ours), "word", true))
	}
	c.look()
	for time.Since(c.begin) < length {
		c.round++
		next := time.After(pace)
		c.works(c.replace())
		<-next
		c.look()
	}
	t.Logf("%d rounds, %d nodes came, the slowest was connected after %v; %d gets, %d of them tried again, the slowest took %v", c.round,
		c.joins, c.slowJoin.Round(time.Millisecond), c.gets, c.again, c.slowGet.Round(time.Millisecond))
	c.flat()
}
