package dhtinterop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// churnFor is how long TestChurn lasts; DHTINTEROP_CHURN=30m for the long run.
func churnFor(t *testing.T) time.Duration {
	s := os.Getenv("DHTINTEROP_CHURN")
	if s == "" {
		return 40 * time.Second
	}
	d, err := time.ParseDuration(s)
	check(t, err)
	return d
}

// churn is a network in which nodes come and go; the entry and the witness of ours stay.
type churn struct {
	t       *testing.T
	network uint32
	entry   *ours
	witness *ours
	ours    []*ours
	theirs  []*theirs.Node
	rounds  int
}

func (c *churn) newOurs() *ours {
	return newOurs(c.t, dhtnode.Config{Network: c.network, Bootstrap: []string{c.entry.addr.String()}}, false)
}

func (c *churn) newTheirs() *theirs.Node {
	return theirs.StartNode(c.t, theirs.Options{Network: c.network, Bootstrap: c.entry.addr.String()})
}

// replace lets one node of each side vanish without a word, and another come.
func (c *churn) replace() {
	c.rounds++
	i, j := rand.IntN(len(c.ours)), rand.IntN(len(c.theirs))
	c.ours[i].stop()
	c.theirs[j].Kill()
	c.ours[i], c.theirs[j] = c.newOurs(), c.newTheirs()
}

// works puts by one node and gets by another, both ways. Theirs may still be entering: it asks again.
func (c *churn) works() {
	key := fmt.Sprintf("churn-%d", c.rounds)
	o, node := c.ours[rand.IntN(len(c.ours))], c.theirs[rand.IntN(len(c.theirs))]
	eventually(c.t, "ours to be connected", func() bool { return o.good() > 0 })
	knows(c.t, node, 1)
	o.put(key, text("ours"))
	eventually(c.t, "theirs to find what ours put", func() bool {
		values, err := node.Get(key, "")
		check(c.t, err)
		_, ok := find(values, "ours")
		return ok
	})
	_, err := node.Put(key, "theirs")
	check(c.t, err)
	eventually(c.t, "the witness to find what theirs put", func() bool {
		for _, v := range c.witness.get(key) {
			if string(v.Data) == "theirs" {
				return true
			}
		}
		return false
	})
}

// connected fails if anybody is alone.
func (c *churn) connected() {
	for _, o := range append([]*ours{c.entry, c.witness}, c.ours...) {
		eventually(c.t, "no node of ours alone", func() bool { return o.good() > 0 })
	}
	for _, node := range c.theirs {
		knows(c.t, node, 1)
	}
}

// heap is the memory in use after a collection, of this process with all nodes of ours.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestChurn(t *testing.T) {
	theirs.Require(t)
	n := freshNetwork()
	c := &churn{t: t, network: n, entry: newOurs(t, dhtnode.Config{Network: n}, false)}
	c.witness = c.newOurs()
	for range 3 {
		c.ours = append(c.ours, c.newOurs())
		c.theirs = append(c.theirs, c.newTheirs())
	}
	lasting := dht.HashText("lasting")
	c.connected()
	check(t, c.witness.Put(c.witness.ctx(), lasting, text("lasting"), dhtnode.PutOptions{Permanent: true}))
	var early uint64
	begin, length := time.Now(), churnFor(t)
	for time.Since(begin) < length || c.rounds < 4 {
		c.replace()
		c.works()
		c.connected()
		if early == 0 && time.Since(begin) > length/4 {
			early = heap()
		}
	}
	late := heap()
	t.Logf("%d rounds; heap %d KiB after a quarter, %d KiB at the end; entry knows %d nodes", c.rounds, early>>10, late>>10, c.entry.good())
	if values := c.ours[0].get("lasting"); len(values) != 1 {
		t.Errorf("the permanent value is found %d times", len(values))
	}
	// What grows with time rather than with the network would at least double over three more quarters. 4 MiB is for
	// what the test itself keeps of the output of each program it ever started.
	if late > 2*early+4<<20 {
		t.Errorf("heap grew from %d to %d bytes", early, late)
	}
}
