package dhtnode_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/internal/msgpack"
)

// The two forms of a node's state, with exactly the members and order of upstream (docs/protocols/opendht.md §15.2).
func TestInfo(t *testing.T) {
	network(t, 6, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		id := identity(t, "info")
		n := c.Start(dhtnode.Config{Identity: id, NoPublish: true, Bootstrap: []string{c.Nodes[0].Addr.String()}})
		c.Settle(time.Minute)
		dhttest.Pass(time.Minute)
		put(t, n, dht.HashText("k"), text("v"), dhtnode.PutOptions{Permanent: true})
		i := n.Info()
		if i.ID != id.Key.Public().ID() || i.NodeID != n.ID() || i.IPv4.Good == 0 || i.Ops != 1 || i.LocalValues != 1 ||
			i.LocalBytes == 0 || i.Port4 != n.Addr.Port() || i.Port6 != 0 {
			t.Errorf("Info = %+v", i)
		}
		b, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"id", "node_id", "ipv4", "ipv6", "ops", "storage_values", "storage_size", "local_storage_values",
			"local_storage_size", "port_ipv4", "port_ipv6"} {
			if _, ok := got[key]; !ok {
				t.Errorf("no %s in %s", key, b)
			}
			delete(got, key)
		}
		if len(got) != 0 {
			t.Errorf("more than upstream has: %v", got)
		}
		if b, _ := json.Marshal(c.Nodes[0].Info()); bytes.Contains(b, []byte(`"id"`)) {
			t.Errorf("an id without identity: %s", b)
		}
	})
}

func TestInfoMsgpack(t *testing.T) {
	i := dhtnode.Info{ID: dht.HashText("id"), NodeID: dht.HashText("node"), Ops: 300, Values: 1, Bytes: 70000, Port4: 4222,
		IPv4: dhtnode.FamilyStats{Good: 1, Dubious: 2, Candidates: 3, Incoming: 4, Depth: 5, Searches: 6, Cached: 7}}
	r := msgpack.NewReader(i.AppendMsgpack(nil))
	str := func(want string) {
		t.Helper()
		if got := string(r.Str()); got != want {
			t.Errorf("key %q, want %q", got, want)
		}
	}
	num := func(key string, want uint64) {
		t.Helper()
		str(key)
		if got := r.Uint(); got != want {
			t.Errorf("%s = %d, want %d", key, got, want)
		}
	}
	if n := r.MapLen(); n != 11 {
		t.Errorf("%d members", n)
	}
	str("id")
	if !bytes.Equal(r.Bin(), i.ID[:]) {
		t.Error("id")
	}
	str("node_id")
	if !bytes.Equal(r.Bin(), i.NodeID[:]) {
		t.Error("node id")
	}
	for f, family := range []string{"ipv4", "ipv6"} {
		str(family)
		if n := r.MapLen(); n != 7 {
			t.Errorf("%s has %d members", family, n)
		}
		for k, key := range []string{"good_nodes", "dubious_nodes", "cached_nodes", "incoming_nodes", "table_depth", "searches", "node_cache_size"} {
			num(key, uint64((1-f)*(k+1)))
		}
	}
	num("ongoing_ops", 300)
	num("storage_values", 1)
	num("storage_size", 70000)
	num("local_storage_values", 0)
	num("local_storage_size", 0)
	num("bound4", 4222)
	num("bound6", 0)
	if r.Err() != nil || len(r.Rest()) != 0 {
		t.Errorf("%v, %d bytes left", r.Err(), len(r.Rest()))
	}
}
