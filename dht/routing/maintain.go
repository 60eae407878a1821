package routing

import (
	"encoding/binary"
	"time"

	"github.com/jirani/jirani/dht"
)

// docs/protocols/opendht.md §8, §9.4.
const (
	bucketStaleAfter = 10 * time.Minute
	grownRecently    = 150 * time.Second
	neighbourOdds    = 8  // one in: ask a neighbouring bucket's node instead
	bothOdds         = 38 // one in: ask for both families although the other table is full there
)

// Probe is one `find` to send.
type Probe struct {
	Node   *Node
	Target dht.InfoHash
	// Both asks for nodes of both families in any case; otherwise the caller asks for both only when the other
	// family's bucket of Target has room.
	Both bool
}

// Maintain decides which buckets need a `find` now (§9.4 steps 2 and 3) and appends the requests to probes.
func (t *Table) Maintain(now time.Time, probes []Probe) []Probe {
	before := len(probes)
	for i := range t.buckets {
		b := &t.buckets[i]
		if len(b.nodes) > 0 && now.Sub(b.time) < bucketStaleAfter {
			continue
		}
		if n := t.pick(i, len(b.nodes) == 0); n != nil && n.Pending == 0 {
			probes = append(probes, Probe{n, t.randomIn(i), t.rng.IntN(bothOdds) == 0})
		}
	}
	if len(probes) == before && !t.grown.IsZero() && now.Sub(t.grown) <= grownRecently {
		target := t.self
		target[len(target)-1] = byte(t.rng.UintN(256))
		if n := t.pick(t.find(t.self), false); n != nil && n.Pending == 0 {
			probes = append(probes, Probe{n, target, true})
		}
	}
	return probes
}

// pick returns a random node that is not expired from bucket i or, when it is empty or by chance, a neighbour of it.
func (t *Table) pick(i int, empty bool) *Node {
	if (empty || t.rng.IntN(neighbourOdds) == 0) && i+1 < len(t.buckets) && len(t.buckets[i+1].nodes) > 0 {
		i++
	} else if (empty || t.rng.IntN(neighbourOdds) == 0) && i > 0 && len(t.buckets[i-1].nodes) > 0 {
		i--
	}
	return t.randomNode(i)
}

func (t *Table) randomNode(i int) *Node {
	nodes := t.buckets[i].nodes
	if len(nodes) == 0 {
		return nil
	}
	for j, at := 0, t.rng.IntN(len(nodes)); j < len(nodes); j++ {
		if n := nodes[(at+j)%len(nodes)]; !n.Expired {
			return n
		}
	}
	return nil
}

// randomIn returns a random id of bucket i's range.
func (t *Table) randomIn(i int) (id dht.InfoHash) {
	binary.BigEndian.PutUint64(id[:], t.rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], t.rng.Uint64())
	binary.BigEndian.PutUint32(id[16:], t.rng.Uint32())
	b := &t.buckets[i]
	for d := range b.depth {
		id.SetBit(d, b.start.Bit(d))
	}
	return id
}
