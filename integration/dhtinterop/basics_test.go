package dhtinterop

import (
	"testing"

	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

func TestTheirsEntersByOurs(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n := freshNetwork()
	o := newOurs(t, dhtnode.Config{Network: n}, false)
	node := theirs.StartNode(t, theirs.Options{Network: n, Bootstrap: o.addr.String()})
	py := theirs.StartPython(t, theirs.Options{Network: n, Bootstrap: o.addr.String()})
	knows(t, node, 2) // each of them hears of the other from ours
	knows(t, py, 2)
	eventually(t, "2 good nodes at ours", func() bool { return o.good() >= 2 })
}

func TestOursEntersByTheirs(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n := freshNetwork()
	node := theirs.StartNode(t, theirs.Options{Network: n})
	py := theirs.StartPython(t, theirs.Options{Network: n, Bootstrap: local(node.Port)})
	knows(t, py, 1)
	o := newOurs(t, dhtnode.Config{Network: n, Bootstrap: []string{local(node.Port)}}, false)
	eventually(t, "2 good nodes at ours", func() bool { return o.good() >= 2 })
	knows(t, node, 2)
	knows(t, py, 2)
}

func TestNetworksStayApart(t *testing.T) {
	theirs.Require(t)
	t.Parallel()
	n, other := freshNetwork(), freshNetwork()
	o := newOurs(t, dhtnode.Config{Network: n}, false)
	stranger := theirs.StartNode(t, theirs.Options{Network: other, Bootstrap: o.addr.String()})
	member := theirs.StartNode(t, theirs.Options{Network: n, Bootstrap: o.addr.String()})
	knows(t, member, 1)
	eventually(t, "packets of the other network counted", func() bool { return o.Stats().Drops["network"] >= 3 })
	eventually(t, "the member to be good at ours", func() bool { return o.good() >= 1 })
	if got, err := stranger.Good(); err != nil || got != 0 {
		t.Fatalf("a node of another network knows %d good nodes, %v", got, err)
	}
	if got := o.good(); got != 1 {
		t.Fatalf("ours knows %d good nodes, want 1", got)
	}
}
