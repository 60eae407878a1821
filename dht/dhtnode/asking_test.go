package dhtnode_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/dhttest"
	"github.com/jirani/jirani/dht/wire"
)

// What our node asks for and sends, as real nodes were seen to, where no recorded probe says it.

// TestGetAsksForIDsFirst, then for one value at a time, with the caller's conditions in the first question (§10.2).
func TestGetAsksForIDsFirst(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		stored := []*dht.Value{{ID: 1, Data: []byte("one")}, {ID: 2, Data: []byte("two")}}
		var mu sync.Mutex
		var asked []dht.Query
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind != wire.Get {
				return a
			}
			mu.Lock()
			asked = append(asked, q.Query.Clone())
			mu.Unlock()
			if len(q.Query.Select) > 0 {
				a.Fields = wire.AppendFields(nil, q.Query.Select, stored)
				return a
			}
			for _, v := range stored {
				if q.Query.Match(v) {
					a.SetValues([][]byte{v.Append(nil)})
				}
			}
			return a
		})
		found := 0
		q := dht.Query{Where: []dht.FieldValue{dht.WhereType(0)}}
		if err := n.Get(t.Context(), dht.HashText("k"), q, func(*dht.Value) bool { found++; return true }); err != nil || found != 2 {
			t.Fatalf("found %d values: %v", found, err)
		}
		mu.Lock()
		defer mu.Unlock()
		var got [][]byte
		for i := range asked {
			got = append(got, asked[i].Append(nil))
		}
		var want [][]byte
		for _, q := range []dht.Query{
			{Select: []dht.Field{dht.FieldID}, Where: q.Where},
			{Where: []dht.FieldValue{dht.WhereID(1)}}, {Where: []dht.FieldValue{dht.WhereID(2)}},
		} {
			want = append(want, q.Append(nil))
		}
		slices.SortFunc(got[min(1, len(got)):], bytes.Compare) // the values are asked for at once
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("asked %x, want %x", got, want)
		}
	})
}

// TestGetTakesValuesAnsweredAtOnce: a node may answer the question for ids with the values (§10.2).
func TestGetTakesValuesAnsweredAtOnce(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind == wire.Get {
				a.SetValues([][]byte{serialised(1, 5)})
			}
			return a
		})
		if got := get(t, n, dht.HashText("k")); len(got) != 1 {
			t.Errorf("found %d values", len(got))
		}
	})
}

// TestListenUsesTheNewestToken: those in answers to listens and in pushes replace the one of the last find (§3.4, §19.2 requirement 15).
func TestListenUsesTheNewestToken(t *testing.T) {
	peered(t, dhtnode.Config{}, func(t *testing.T, c *dhttest.Cluster, n *dhttest.Node, p *peer) {
		var mu sync.Mutex
		var used []string
		var socket uint32
		p.act(func(q, a *wire.Packet) *wire.Packet {
			if q.Kind == wire.Listen {
				mu.Lock()
				used, socket = append(used, string(q.Token)), q.SocketID
				mu.Unlock()
				a.Token = []byte("of a listen")
			}
			return a
		})
		l, err := n.Listen(dht.HashText("k"), dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(30 * time.Second)
		push := &wire.Packet{Kind: wire.Update, TID: 3, ID: p.id, SocketID: socket, Token: []byte("of a push"), Expired: []dht.ValueID{77}}
		(&prober{t, p.conn, n.Addr}).send(push.Append(nil))
		dhttest.Pass(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(used) != 3 || used[1] != "of a listen" || used[2] != "of a push" {
			t.Errorf("tokens used: %q", used)
		}
	})
}

// TestHowFarOperationsReach: a put goes to the eight closest nodes and no other, a listen to the four closest (§10.3).
func TestHowFarOperationsReach(t *testing.T) {
	network(t, 40, dhttest.Link{Latency: latency}, func(t *testing.T, c *dhttest.Cluster) {
		key := dht.HashText("k")
		order := nearest(c, key)
		n := order[len(order)-1]
		if _, err := n.Find(t.Context(), key); err != nil { // who the closest are is known before anything is sent to them
			t.Fatal(err)
		}
		put(t, n, key, text("v"), dhtnode.PutOptions{})
		l, err := n.Listen(key, dht.Query{}, func(dhtnode.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Cancel()
		dhttest.Pass(15 * time.Second)
		for i, o := range order[:len(order)-1] {
			s := o.Stats().Storage
			if stores, listens := s.Values == 1, s.Listeners == 1; stores != (i < 8) || listens != (i < 4) {
				t.Errorf("node %d by distance: stores %v, is listened on %v", i, stores, listens)
			}
		}
	})
}
