package dhtinterop

import (
	"fmt"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// A permanent value outlives the nodes that store it: the one who put it tells those who come after them. There are fewer than eight nodes
// in all, so that the newcomers are among the eight closest while the dead still count as good (docs/protocols/opendht.md §9.2).
func TestPermanentPutOfOursSurvives(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n := freshNetwork()
	o := newOurs(t, dhtnode.Config{Network: n}, false)
	first := startNodes(t, n, o.addr.String(), 4)
	check(t, o.Put(o.ctx(), dht.HashText("lasting"), text("still-here"), dhtnode.PutOptions{Permanent: true}))
	for _, node := range first {
		holds(t, node, "lasting", "still-here")
	}
	for _, node := range first {
		node.Kill()
	}
	next := startNodes(t, n, o.addr.String(), 3)
	eventually(t, "newcomers to hold the value without its owner", func() bool { return stored(t, next) })
	o.stop()
	for _, node := range next {
		holds(t, node, "lasting", "still-here")
	}
}

func TestPermanentPutOfTheirsSurvives(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n := freshNetwork()
	owner := theirs.StartNode(t, theirs.Options{Network: n})
	entry := local(owner.Port)
	var first, next []*ours
	start := func(list *[]*ours, count int) {
		for range count {
			*list = append(*list, newOurs(t, dhtnode.Config{Network: n, Bootstrap: []string{entry}}, false))
		}
		for _, o := range *list {
			eventually(t, "ours to be connected", func() bool { return o.good() >= 1 })
		}
	}
	start(&first, 4)
	knows(t, owner, 1)
	_, err := owner.PutPermanent("lasting", "still-here")
	check(t, err)
	holding := func(list []*ours) bool {
		for _, o := range list {
			if s := o.Stats().Storage; s.Values == 0 {
				return false
			}
		}
		return true
	}
	eventually(t, "ours to hold the value", func() bool { return holding(first) })
	for _, o := range first {
		o.stop()
	}
	start(&next, 3)
	eventually(t, "newcomers of ours to hold the value", func() bool { return holding(next) })
	owner.Kill()
	for _, o := range next {
		if values := o.get("lasting"); len(values) != 1 || string(values[0].Data) != "still-here" {
			t.Errorf("found %d values", len(values))
		}
	}
}

func startNodes(t *testing.T, network uint32, entry string, count int) (nodes []*theirs.Node) {
	t.Helper()
	for range count {
		nodes = append(nodes, theirs.StartNode(t, theirs.Options{Network: network, Bootstrap: entry}))
	}
	for _, node := range nodes {
		knows(t, node, 1)
	}
	return nodes
}

// holds waits until a node of theirs finds the value.
func holds(t *testing.T, node *theirs.Node, key, data string) {
	t.Helper()
	eventually(t, fmt.Sprintf("theirs to find %q at %s", data, key), func() bool {
		values, err := node.Get(key, "")
		check(t, err)
		_, ok := find(values, data)
		return ok
	})
}

// stored reports whether each node keeps a value itself.
func stored(t *testing.T, nodes []*theirs.Node) bool {
	t.Helper()
	for _, node := range nodes {
		n, err := node.Stored()
		check(t, err)
		if n == 0 {
			return false
		}
	}
	return true
}
