package dhtnode

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
)

// Numbers of docs/protocols/opendht.md §8 that no test network is large or old enough for.

// TestStoreSpan: whom fourteen good nodes are closer than does not store (§3.2).
func TestStoreSpan(t *testing.T) {
	n, _, _ := answering(t)
	f := n.fam[inet4]
	r := rand.New(rand.NewPCG(3, 3))
	met := map[int]bool{}
	for range 5000 {
		key := randomID(r)
		n.turn(func(now time.Time) {
			closer := 0
			for node := range f.table.Nodes {
				if node.Good(now) && routing.Closer(node.ID, n.self, key) {
					closer++
				}
			}
			met[closer] = true
			if got := n.closeEnough(f, key, now); got != (closer < 14) {
				t.Fatalf("with %d closer nodes close enough is %v", closer, got)
			}
		})
	}
	if !met[13] || !met[14] {
		t.Errorf("only met %v closer nodes", met)
	}
}

// TestSearchFails when its 25 closest nodes are dead (§10.1).
func TestSearchFails(t *testing.T) {
	n, _, _ := answering(t)
	for dead, want := range map[int]bool{1: false, 24: false, 25: true} {
		s := &search{n: n}
		for i := range dead + 1 {
			s.nodes = append(s.nodes, &searchNode{s: s, node: &routing.Node{Expired: i < dead}})
		}
		if s.failed() != want {
			t.Errorf("with the closest %d dead, failed is %v", dead, !want)
		}
	}
}

// TestSearchIsRefilled from the records ten minutes after the last time (§10.1).
func TestSearchIsRefilled(t *testing.T) {
	n, _, _ := answering(t)
	n.turn(func(now time.Time) {
		s := n.searchFor(n.fam[inet4], dht.HashText("k"), now)
		for _, tt := range []struct {
			after time.Duration
			want  int
		}{{0, 14}, {10*time.Minute - 1, 0}, {10 * time.Minute, 14}} {
			s.nodes = nil
			if s.refill(now.Add(tt.after)); len(s.nodes) != tt.want {
				t.Errorf("%d nodes after %v, want %d", len(s.nodes), tt.after, tt.want)
			}
		}
	})
}

// TestIdleSearchEnds after 62 minutes.
func TestIdleSearchEnds(t *testing.T) {
	m := newMirror(t)
	f, key := m.n.fam[inet4], dht.HashText("k")
	m.n.turn(func(now time.Time) { m.n.searchFor(f, key, now) })
	if m.pass(61*time.Minute + 59*time.Second); f.searches[key] == nil {
		t.Error("gone before 62 minutes")
	}
	if m.pass(2 * time.Second); f.searches[key] != nil {
		t.Error("still there after 62 minutes")
	}
}

// TestRefusalsPause: from a second, doubling, to five minutes; an acceptance ends the row (§3.3).
func TestRefusalsPause(t *testing.T) {
	sn, now := &searchNode{node: new(routing.Node)}, time.Now()
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if sn.refused(now); sn.pause.Sub(now) != want*time.Second || sn.token != nil {
			t.Errorf("a pause of %v, want %v", sn.pause.Sub(now), want*time.Second)
		}
	}
	sn.accepted()
	if sn.refused(now); sn.pause.Sub(now) != time.Second {
		t.Errorf("a pause of %v after an acceptance", sn.pause.Sub(now))
	}
}

// TestSweepPauses of 2 to 6 minutes.
func TestSweepPauses(t *testing.T) {
	n, _, _ := answering(t)
	least, most := time.Hour, time.Duration(0)
	n.turn(func(now time.Time) {
		for range 300 {
			n.sweepDue(now)
			least, most = min(least, n.sweep.at.Sub(now)), max(most, n.sweep.at.Sub(now))
		}
	})
	if least < 2*time.Minute || least > 130*time.Second || most > 6*time.Minute || most < 350*time.Second {
		t.Errorf("pauses of %v to %v", least, most)
	}
}

// TestReportedAddressesAreBounded: 32 of a family (§8, §14.4).
func TestReportedAddressesAreBounded(t *testing.T) {
	var v votes
	for i := range 40 {
		v.add(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), netip.AddrFrom4([4]byte{172, 16, byte(i), 1}))
	}
	if got := len(v.all()); got != 32 {
		t.Errorf("%d addresses kept", got)
	}
}
