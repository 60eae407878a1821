package dhtinterop

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/pht"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// An entry of an index is found by the other side, both ways, also once there are so many that the root has split.
func TestIndex(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n := freshNetwork()
	o := newOurs(t, dhtnode.Config{Network: n}, false)
	node := theirs.StartNode(t, theirs.Options{Network: n, Bootstrap: o.addr.String()})
	knows(t, node, 1)
	index := o.Index("people", pht.Spec{"name": 3})
	key := func(name string) pht.Key { return pht.Key{"name": []byte(name)} }

	check(t, node.IndexInsert("people", "name:foo", hexKey("of theirs")))
	eventually(t, "their entry found by us", func() bool {
		got, err := index.Lookup(o.ctx(), key("foo"))
		check(t, err)
		return len(got) == 1 && got[0].Ref.Place == dht.HashText("of theirs")
	})

	leaf, err := index.Insert(o.ctx(), key("bar"), pht.Ref{Place: dht.HashText("of ours"), ID: 5})
	check(t, err)
	t.Logf("our entry went to a node of %d bits", leaf.Bits)
	eventually(t, "our entry found by theirs", func() bool {
		got, err := node.IndexLookup("people", "name:bar")
		check(t, err)
		return slices.Contains(got, hexKey("of ours"))
	})

	for i := range 20 {
		name := fmt.Sprintf("a%02d", i)
		leaf, err = index.Insert(o.ctx(), key(name), pht.Ref{Place: dht.HashText(name), ID: 1})
		check(t, err)
	}
	if leaf.Bits == 0 {
		t.Error("22 entries at the root: no split")
	}
	eventually(t, "an entry below the root found by theirs", func() bool {
		got, err := node.IndexLookup("people", "name:a19")
		check(t, err)
		return slices.Contains(got, hexKey("a19"))
	})
}
