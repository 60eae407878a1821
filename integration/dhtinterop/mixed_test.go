package dhtinterop

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// mixed is a network of five nodes of ours and five of theirs, three programs and two of the library. Each side entered
// by the other. The first two of each kind have identities. All of a kind are at one place.
type mixed struct {
	ours  []*ours
	nodes []*theirs.Node
	pys   []*theirs.Python
}

func newMixed(t *testing.T, us, them place) mixed {
	t.Helper()
	n := freshNetwork()
	var m mixed
	start := func(identity bool, entry string) {
		cfg := dhtnode.Config{Network: n}
		if entry != "" {
			cfg.Bootstrap = []string{entry}
		}
		m.ours = append(m.ours, newOursAt(t, us, cfg, identity, netip.AddrPortFrom(us.addr, 0)))
	}
	start(true, "")
	for i := range 3 {
		m.nodes = append(m.nodes, theirs.StartNode(t, theirs.Options{Network: n, Identity: i < 2, Bootstrap: m.ours[0].addr.String(),
			Start: them.starter()}))
	}
	for i := range 4 {
		start(i == 0, them.at(m.nodes[i%3].Port))
	}
	for range 2 {
		m.pys = append(m.pys, theirs.StartPython(t, theirs.Options{Network: n, Identity: true, Bootstrap: m.ours[3].addr.String(),
			Start: them.starter()}))
	}
	for _, o := range m.ours {
		eventually(t, "ours to be connected", func() bool { return o.good() > 0 })
	}
	for _, node := range m.nodes {
		knows(t, node, 1)
	}
	for _, py := range m.pys {
		knows(t, py, 1)
	}
	m.mingle(t)
	return m
}

// mingle has every node look for places, as nodes of a network that lives do all the time, until all have met. In a network of seconds some
// know half of it, and the reference takes minutes to look further by itself: a put then reaches the nodes one side knows, and a listen of the
// other side is on the rest.
func (m mixed) mingle(t *testing.T) {
	t.Helper()
	const enough = 7 // of 9 others: a bucket has room for 8, and the last one of a kind may be a candidate
	round := 0
	eventually(t, "everybody to know the network", func() bool {
		key := fmt.Sprintf("mingle-%d", round)
		round++
		met := true
		for _, o := range m.ours {
			o.get(key)
			met = met && o.good() >= enough
		}
		theirs := func(g goodNodes, err error) {
			check(t, err)
			good, err := g.Good()
			check(t, err)
			met = met && good >= enough
		}
		for _, node := range m.nodes {
			_, err := node.Get(key, "")
			theirs(node, err)
		}
		for _, py := range m.pys {
			_, err := py.Get(hexKey(key), "")
			theirs(py, err)
		}
		return met
	})
}

// keyNear returns a key for which the nodes with these ids are among the closest six of the ten, so that a put from any node reaches them.
func (m mixed) keyNear(t *testing.T, prefix string, ids ...string) (key string) {
	t.Helper()
	var all []dht.InfoHash
	add := func(id string) {
		h, err := dht.ParseInfoHash(id)
		check(t, err)
		all = append(all, h)
	}
	for _, o := range m.ours {
		all = append(all, o.ID())
	}
	for _, node := range m.nodes {
		add(node.ID)
	}
	for _, py := range m.pys {
		add(py.ID)
	}
	for i := range 10000 {
		key = fmt.Sprintf("%s-%d", prefix, i)
		slices.SortFunc(all, dht.HashText(key).CloserTo)
		near := all[:6]
		if !slices.ContainsFunc(ids, func(id string) bool {
			return !slices.ContainsFunc(near, func(h dht.InfoHash) bool { return h.String() == id })
		}) {
			return key
		}
	}
	t.Fatalf("no key near %v", ids)
	return ""
}

// TestMixedNetwork runs alone: with the forty nodes of the tests beside it, answers come too late for upstream's patience.
func TestMixedNetwork(t *testing.T) {
	theirs.Require(t)
	m := newMixed(t, here, here)
	for _, sub := range []operation{
		{"plain from ours", plainFromOurs}, {"plain from theirs", plainFromTheirs}, {"large", large},
		{"signed from ours", signedFromOurs}, {"signed from theirs", signedFromTheirs},
		{"certificate by id", certificateByID},
		{"encrypted from ours", encryptedFromOurs}, {"encrypted from theirs", encryptedFromTheirs},
		{"queries of ours", queriesOfOurs}, {"queries of theirs", queriesOfTheirs},
		{"we listen", weListen}, {"we hear the end", weHearTheEnd}, {"they listen", theyListen}, {"many values", manyValues},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.f(t, m.in(t)) })
	}
}

// operation is what a mixed network must do.
type operation struct {
	name string
	f    func(*testing.T, mixed)
}

// TestMixedNetworkOverABadLink has all of ours on one side and all of theirs on the other of a link that loses every tenth packet, brings
// some twice and others late. Values that need more than a few parts are left out: upstream before 3.7.3 gives up on them when one part is
// lost or overtaken.
func TestMixedNetworkOverABadLink(t *testing.T) {
	theirs.Require(t)
	us, them := joined(t, link{loss: 0.1, twice: 0.1, delay: 5 * time.Millisecond, jitter: 5 * time.Millisecond})
	m := newMixed(t, us, them)
	for _, sub := range []operation{
		{"plain from theirs", plainFromTheirs}, {"encrypted from ours", encryptedFromOurs}, {"encrypted from theirs", encryptedFromTheirs},
		{"queries of theirs", queriesOfTheirs}, {"we listen", weListen},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.f(t, m.in(t)) })
	}
}

// in makes the nodes of ours report to the test at hand.
func (m mixed) in(t *testing.T) mixed {
	same := m
	same.ours = nil
	for _, o := range m.ours {
		o := *o
		o.t = t
		same.ours = append(same.ours, &o)
	}
	return same
}

// theyFind waits until every node of theirs finds a value with that text, and returns what the library shows. On a machine that is too busy
// a search passes over nodes that answer late, and may miss the value once.
func (m mixed) theyFind(t *testing.T, key, data string) (shown theirs.Value) {
	t.Helper()
	for i, node := range m.nodes {
		eventually(t, fmt.Sprintf("dhtnode %d to find %q at %s", i, data, key), func() bool {
			values, err := node.Get(key, "")
			check(t, err)
			_, ok := find(values, data)
			return ok
		})
	}
	for i, py := range m.pys {
		eventually(t, fmt.Sprintf("python %d to find %q at %s", i, data, key), func() (ok bool) {
			values, err := py.Get(hexKey(key), "")
			check(t, err)
			shown, ok = find(values, data)
			return ok
		})
	}
	return shown
}

// weFind does the same with every node of ours.
func (m mixed) weFind(t *testing.T, key, data string) (found *dht.Value) {
	t.Helper()
	for i, o := range m.ours {
		eventually(t, fmt.Sprintf("ours %d to find %q at %s", i, data, key), func() bool {
			values := o.get(key)
			k := slices.IndexFunc(values, func(v *dht.Value) bool { return string(v.Data) == data })
			if k >= 0 {
				found = values[k]
			}
			return k >= 0
		})
	}
	return found
}

func plainFromOurs(t *testing.T, m mixed) {
	for i, o := range m.ours {
		key := "plain-from-ours-" + string(rune('a'+i))
		o.put(key, text("hello"))
		m.theyFind(t, key, "hello")
		m.weFind(t, key, "hello")
	}
}

func plainFromTheirs(t *testing.T, m mixed) {
	_, err := m.nodes[2].Put("plain-from-node", "hi-from-node")
	check(t, err)
	m.weFind(t, "plain-from-node", "hi-from-node")
	check(t, m.pys[0].Put(hexKey("plain-from-python"), theirs.Value{Data: []byte("hi-from-python"), UserType: "text/plain"}))
	if v := m.weFind(t, "plain-from-python", "hi-from-python"); v.UserType != "text/plain" || v.Owner != nil {
		t.Errorf("found %+v", v)
	}
	m.theyFind(t, "plain-from-python", "hi-from-python")
}

func large(t *testing.T, m mixed) {
	for _, size := range []int{600, 40 << 10, 65000} {
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		check(t, m.pys[0].Put(hexKey("large-from-theirs"), theirs.Value{ID: uint64(size), Data: data}))
		for i, o := range m.ours {
			var values []*dht.Value
			eventually(t, fmt.Sprintf("ours %d to find %d bytes", i, size), func() bool {
				values = o.get("large-from-theirs", dht.WhereID(dht.ValueID(size)))
				return len(values) > 0
			})
			if len(values) != 1 || !bytes.Equal(values[0].Data, data) {
				t.Errorf("ours %d: %d values for %d bytes", i, len(values), size)
			}
		}
		m.ours[1].put("large-from-ours", &dht.Value{ID: dht.ValueID(size), Data: data})
		for i, py := range m.pys {
			eventually(t, fmt.Sprintf("python %d to find %d bytes", i, size), func() bool {
				values, err := py.Get(hexKey("large-from-ours"), "")
				check(t, err)
				_, ok := find(values, string(data))
				return ok
			})
		}
	}
}

func manyValues(t *testing.T, m mixed) {
	const n = 60 // above the 50 that are still sent inline
	for i := range n {
		m.ours[i%5].put("many", &dht.Value{ID: dht.ValueID(i + 1), Data: []byte{byte(i)}})
	}
	exactly := func(who string, count func() int) {
		got := 0
		eventually(t, who+" to find all values", func() bool {
			got = count()
			return got >= n
		})
		if got > n {
			t.Errorf("%s found %d values, want %d", who, got, n)
		}
	}
	exactly("python", func() int {
		values, err := m.pys[0].Get(hexKey("many"), "")
		check(t, err)
		return len(values)
	})
	exactly("ours", func() int { return len(m.ours[2].get("many")) })
}

func signedFromOurs(t *testing.T, m mixed) {
	o := m.ours[0]
	for version := range 3 { // the same id again: edits
		data := "signed-by-us-" + string(rune('0'+version))
		v, err := o.PutSigned(o.ctx(), dht.HashText("signed-from-ours"), &dht.Value{ID: 77, Data: []byte(data), UserType: "text/plain"}, dhtnode.PutOptions{})
		check(t, err)
		if int(v.Seq) != version {
			t.Errorf("version %d has seq %d", version, v.Seq)
		}
		shown := m.theyFind(t, "signed-from-ours", data)
		if !shown.Signed || shown.Owner != o.identity.Key.Public().ID().String() {
			t.Errorf("theirs shows %+v", shown)
		}
	}
	values, err := m.pys[0].Get(hexKey("signed-from-ours"), "")
	if err != nil || len(values) != 1 {
		t.Errorf("after edits theirs finds %d values, %v", len(values), err)
	}
}

func signedFromTheirs(t *testing.T, m mixed) {
	check(t, m.nodes[0].PutSigned("signed-from-theirs", "signed-by-them"))
	v := m.weFind(t, "signed-from-theirs", "signed-by-them")
	if !v.IsSigned() || v.Verify() != nil || v.Owner.ID().String() != m.nodes[0].KeyID {
		t.Errorf("found %+v", v)
	}
}

func certificateByID(t *testing.T, m mixed) {
	us := m.ours[1].identity.Key.Public()
	for _, id := range []struct{ short, long string }{{m.nodes[0].KeyID, m.nodes[0].LongID}, {m.nodes[1].KeyID, m.nodes[1].LongID},
		{m.pys[0].KeyID, ""}, {us.ID().String(), ""}, {us.ID().String(), us.LongID().String()}} {
		short, err := dht.ParseInfoHash(id.short)
		check(t, err)
		var long dht.PkID
		if id.long != "" {
			long, err = dht.ParsePkID(id.long)
			check(t, err)
		}
		o := m.ours[4]
		eventually(t, "certificate of "+id.short, func() bool {
			chain, err := o.FindCertificate(o.ctx(), long, short)
			if errors.Is(err, dhtnode.ErrNotFound) {
				return false // it is published some time after the node got connected
			}
			check(t, err)
			return chain.Leaf().Key.ID() == short
		})
	}
}

func encryptedFromOurs(t *testing.T, m mixed) {
	o, py := m.ours[0], m.pys[1]
	short, err := dht.ParseInfoHash(py.KeyID)
	check(t, err)
	_, err = o.PutEncrypted(o.ctx(), dht.HashText("encrypted-from-ours"), dht.PkID{}, short, text("our secret"), dhtnode.PutOptions{})
	check(t, err)
	var values []theirs.Value
	var v theirs.Value
	eventually(t, "theirs to find what is encrypted to it", func() (ok bool) {
		values, err = py.Get(hexKey("encrypted-from-ours"), "")
		check(t, err)
		v, ok = find(values, "our secret")
		return ok
	})
	if !v.Decrypted || v.Owner != o.identity.Key.Public().ID().String() {
		t.Errorf("theirs shows %+v", values)
	}
	if values, err = m.pys[0].Get(hexKey("encrypted-from-ours"), ""); err != nil || len(values) != 0 {
		t.Errorf("another node of theirs reads %+v, %v", values, err)
	}
}

func encryptedFromTheirs(t *testing.T, m mixed) {
	o := m.ours[1]
	us := o.identity.Key.Public()
	recipient := us.ID().String()
	if m.nodes[1].LongID != "" {
		recipient = us.LongID().String()
	}
	check(t, m.nodes[1].PutEncrypted("encrypted-from-theirs", recipient, "their-secret"))
	var values []*dht.Value
	eventually(t, "ours to find what is encrypted to it", func() bool {
		values = o.get("encrypted-from-theirs")
		return len(values) > 0
	})
	if len(values) != 1 {
		t.Fatalf("found %d values", len(values))
	}
	v, err := o.Open(values[0])
	if err != nil || string(v.Data) != "their-secret" || v.Owner.ID().String() != m.nodes[1].KeyID {
		t.Errorf("opened %+v, %v", v, err)
	}
	if _, err := m.ours[0].Open(values[0]); err == nil {
		t.Error("another node of ours opened it")
	}
}

func queriesOfOurs(t *testing.T, m mixed) {
	check(t, m.pys[0].Put(hexKey("queries"), theirs.Value{ID: 5, Data: []byte("five"), UserType: "odd"}))
	check(t, m.pys[0].Put(hexKey("queries"), theirs.Value{ID: 6, Data: []byte("six"), UserType: "even"}))
	check(t, m.nodes[0].PutSigned("queries", "mine"))
	owner, err := dht.ParseInfoHash(m.nodes[0].KeyID)
	check(t, err)
	for name, tc := range map[string]struct {
		where dht.FieldValue
		want  string
	}{
		"id": {dht.WhereID(6), "six"}, "user type": {dht.WhereUserType("odd"), "five"}, "owner": {dht.WhereOwner(owner), "mine"},
	} {
		var values []*dht.Value
		eventually(t, "values where "+name, func() bool {
			values = m.ours[2].get("queries", tc.where)
			return len(values) > 0
		})
		if len(values) != 1 || string(values[0].Data) != tc.want {
			t.Errorf("where %s: %d values", name, len(values))
		}
	}
	o := m.ours[2]
	var rows []wire.Row
	eventually(t, "rows", func() bool {
		rows, err = o.Query(o.ctx(), dht.HashText("queries"), dht.Query{
			Select: []dht.Field{dht.FieldID, dht.FieldUserType}, Where: []dht.FieldValue{dht.WhereID(5)}})
		check(t, err)
		return len(rows) > 0
	})
	if rows[0].ID != 5 || rows[0].UserType != "odd" {
		t.Errorf("rows %+v", rows)
	}
}

func queriesOfTheirs(t *testing.T, m mixed) {
	m.ours[3].put("queries-ours", &dht.Value{ID: 21, Data: []byte("x"), UserType: "blue"})
	m.ours[3].put("queries-ours", &dht.Value{ID: 22, Data: []byte("y"), UserType: "red"})
	var rows []string
	eventually(t, "rows at theirs", func() bool {
		var err error
		rows, err = m.nodes[2].Query("queries-ours", "SELECT id,user_type WHERE id=22")
		check(t, err)
		return len(rows) > 0
	})
	if !slices.ContainsFunc(rows, func(r string) bool { return strings.Contains(r, "Id:16") }) || len(rows) != 1 {
		t.Errorf("rows %q", rows)
	}
	var values []theirs.Value
	eventually(t, "values at theirs", func() bool {
		var err error
		values, err = m.pys[1].Get(hexKey("queries-ours"), "WHERE user_type=blue")
		check(t, err)
		return len(values) > 0
	})
	if len(values) != 1 || values[0].ID != 21 {
		t.Errorf("values %+v", values)
	}
}

// soonOver is a creation time that leaves a value of ten minutes a while to live: long enough to be put and heard of on a slow machine.
func soonOver() time.Time { return time.Now().Add(15*time.Second - 10*time.Minute) }

func weListen(t *testing.T, m mixed) {
	next := m.ours[4].listen("we-listen")
	_, err := m.nodes[2].Put("we-listen", "first")
	check(t, err)
	if e := next(); e.Expired || string(e.Value.Data) != "first" {
		t.Fatalf("heard %+v", e)
	}
	o := m.ours[0]
	for _, data := range []string{"edit-0", "edit-1"} {
		_, err := o.PutSigned(o.ctx(), dht.HashText("we-listen"), &dht.Value{ID: 9, Data: []byte(data)}, dhtnode.PutOptions{})
		check(t, err)
		if e := next(); e.Expired || string(e.Value.Data) != data {
			t.Fatalf("heard %+v, want %s", e, data)
		}
	}
}

// weHearTheEnd is not for a bad link: a node says once that a value has ended, and who misses it knows better only after the value's whole
// lifetime; and a put that arrives later than the value would have ended begins that lifetime anew.
func weHearTheEnd(t *testing.T, m mixed) {
	next := m.ours[4].listen("we-hear-the-end")
	short := &dht.Value{ID: 10, Data: []byte("short")}
	check(t, m.ours[3].Put(m.ours[3].ctx(), dht.HashText("we-hear-the-end"), short, dhtnode.PutOptions{Created: soonOver()}))
	if e := next(); e.Expired || e.Value.ID != 10 {
		t.Fatalf("heard %+v", e)
	}
	if e := next(); !e.Expired || e.Value.ID != 10 {
		t.Fatalf("heard %+v, want the end of 10", e)
	}
}

// theyListen has listeners that store what they listen to: upstream's cache of what a listened node sent takes an edit for a refresh of
// the id it knows (2.4.12 and later), so only the node's own storage tells its application of edits.
func theyListen(t *testing.T, m mixed) {
	key := m.keyNear(t, "they-listen", m.pys[0].ID, m.nodes[2].ID)
	nextPython, err := m.pys[0].Listen(hexKey(key))
	check(t, err)
	nextNode, err := m.nodes[2].Listen(key)
	check(t, err)
	heard := func(data string, expired bool) {
		t.Helper()
		for name, next := range map[string]func() (theirs.Value, error){"python": nextPython, "dhtnode": nextNode} {
			v, err := next()
			check(t, err)
			if string(v.Data) != data || v.Expired != expired {
				t.Errorf("%s heard %+v, want %q, expired %v", name, v, data, expired)
			}
		}
	}
	m.ours[2].put(key, text("first"))
	heard("first", false)
	o := m.ours[0]
	for _, data := range []string{"edit-0", "edit-1"} {
		_, err := o.PutSigned(o.ctx(), dht.HashText(key), &dht.Value{ID: 9, Data: []byte(data), UserType: "text/plain"}, dhtnode.PutOptions{})
		check(t, err)
		heard(data, false)
	}
	short := &dht.Value{ID: 10, Data: []byte("short"), UserType: "text/plain"}
	check(t, m.ours[3].Put(m.ours[3].ctx(), dht.HashText(key), short, dhtnode.PutOptions{Created: soonOver()}))
	heard("short", false)
	heard("short", true)
}
