package storage

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
)

var (
	t0   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key  = dht.HashText("key")
	from = netip.MustParseAddr("192.0.2.1")
)

const life = 10 * time.Minute

func value(id dht.ValueID, src netip.Addr, size int) Value {
	return Value{Raw: []byte(strings.Repeat("x", size)), ID: id, Created: t0, Source: src}
}

func mustSet(t *testing.T, s *Store, k dht.InfoHash, v Value, now time.Time) []Gone {
	t.Helper()
	ok, gone := s.Set(k, v, life, now, nil)
	if !ok {
		t.Fatalf("Set(%v, %d) refused", k, v.ID)
	}
	return gone
}

func ids(s *Store, k dht.InfoHash, now time.Time) (got []dht.ValueID) {
	s.Values(k, now, func(v Value) bool { got = append(got, v.ID); return true })
	return got
}

func TestExpiry(t *testing.T) {
	s := New(Limits{}, t0)
	mustSet(t, s, key, value(1, from, 10), t0)
	v := value(2, netip.MustParseAddr("192.0.2.2"), 10)
	v.Created = t0.Add(time.Minute)
	mustSet(t, s, key, v, t0)
	if at, ok := s.Next(); !ok || at != t0.Add(life) {
		t.Errorf("Next = %v, %v", at, ok)
	}
	if gone := s.Expire(t0.Add(life-1), nil); len(gone) != 0 {
		t.Errorf("too early: %v", gone)
	}
	if got := ids(s, key, t0.Add(life)); len(got) != 1 || got[0] != 2 {
		t.Errorf("Values at the end of life = %v", got)
	}
	if gone := s.Expire(t0.Add(life), nil); len(gone) != 1 || gone[0] != (Gone{key, 1}) {
		t.Errorf("Expire = %v", gone)
	}
	s.Expire(t0.Add(time.Hour), nil)
	if st := s.Stats(); st != (Stats{}) || s.Has(key) {
		t.Errorf("something stays: %+v", st)
	}
}

func TestRefresh(t *testing.T) {
	s := New(Limits{}, t0)
	mustSet(t, s, key, value(1, from, 10), t0)
	if !s.Refresh(key, 1, life, t0.Add(5*time.Minute)) || s.Refresh(key, 2, life, t0) {
		t.Error("Refresh of a known and an unknown value")
	}
	if gone := s.Expire(t0.Add(life), nil); len(gone) != 0 {
		t.Errorf("refreshed value expired: %v", gone)
	}
	if !s.Refresh(key, 1, time.Second, t0.Add(6*time.Minute)) {
		t.Error("refused")
	}
	if v, _ := s.Get(key, 1); v.Ends != t0.Add(15*time.Minute) {
		t.Errorf("Ends = %v: a refresh never shortens", v.Ends)
	}
	if gone := s.Expire(t0.Add(15*time.Minute), nil); len(gone) != 1 {
		t.Error("not expired after its new life")
	}
}

func TestReplaceMovesQuota(t *testing.T) {
	s := New(Limits{}, t0)
	other := netip.MustParseAddr("198.51.100.1")
	mustSet(t, s, key, value(1, from, 1000), t0)
	mustSet(t, s, key, value(1, other, 10), t0)
	if st := s.Stats(); st.Values != 1 || st.Bytes != 10+overhead || st.Sources != 1 {
		t.Errorf("Stats = %+v", st)
	}
	s.Remove(key, 1)
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("Stats = %+v", st)
	}
}

func TestQuotas(t *testing.T) {
	const size = 1000
	s := New(Limits{Bytes: 20 * (size + overhead), BytesPerSource: 15 * (size + overhead)}, t0)
	greedy, modest := from, netip.MustParseAddr("198.51.100.1")
	for i := range 10 {
		mustSet(t, s, key, value(dht.ValueID(100+i), modest, size), t0)
	}
	var gone []Gone
	for i := range 30 {
		v := value(dht.ValueID(1+i), greedy, size)
		v.Created = t0.Add(time.Duration(i) * time.Second)
		gone = append(gone, mustSet(t, s, key, v, t0)...)
	}
	if len(gone) != 20 || gone[0].ID != 1 {
		t.Errorf("%d dropped, first %v; want 20 of the greedy source, the earliest end first", len(gone), gone[0])
	}
	for _, g := range gone {
		if g.ID >= 100 {
			t.Errorf("dropped %d of the modest source", g.ID)
		}
	}
	local := value(1000, Local, size)
	if gone := mustSet(t, s, key, local, t0); len(gone) != 0 {
		t.Errorf("a local value cost %v", gone)
	}
	if ok, _ := s.Set(key, value(2000, from, 16*(size+overhead)), life, t0, nil); ok {
		t.Error("a value larger than the quota was taken")
	}
	if ok, _ := s.Set(dht.HashText("k2"), value(1, from, 10), life, t0.Add(time.Hour), nil); !ok {
		t.Error("refused although all others have expired")
	}
}

func TestKeysAndValuesAreBounded(t *testing.T) {
	s := New(Limits{Keys: 2, ValuesPerKey: 3}, t0)
	for i := range 5 {
		ok, _ := s.Set(key, value(dht.ValueID(i+1), from, 1), life, t0, nil)
		if want := i < 3; ok != want {
			t.Errorf("value %d: %v", i, ok)
		}
	}
	mustSet(t, s, dht.HashText("b"), value(1, from, 1), t0)
	if ok, _ := s.Set(dht.HashText("c"), value(1, from, 1), life, t0, nil); ok {
		t.Error("third key taken")
	}
	if _, ok := s.Listen(dht.HashText("c"), Listener{Addr: netip.AddrPortFrom(from, 1)}, t0); ok {
		t.Error("third key by a listener")
	}
}

func TestListeners(t *testing.T) {
	s := New(Limits{ListenersPerSource: 3, ListenersPerKey: 2}, t0)
	l := Listener{Node: dht.HashText("n"), Addr: netip.AddrPortFrom(from, 1), Socket: 7, Version: 1}
	if isNew, ok := s.Listen(key, l, t0); !isNew || !ok || !s.Has(key) {
		t.Error("first listen")
	}
	if isNew, ok := s.Listen(key, l, t0.Add(9*time.Minute)); isNew || !ok {
		t.Error("renewal")
	}
	s.SweepListeners(t0.Add(15 * time.Minute))
	if len(s.Listeners(key)) != 1 {
		t.Error("renewed listener swept")
	}
	for i := range 4 {
		l.Socket = uint32(100 + i)
		k := key
		if i >= 1 {
			k = dht.HashText("other")
		}
		_, ok := s.Listen(k, l, t0)
		if want := i < 2; ok != want { // one more at key, one at other: then the source is full
			t.Errorf("listener %d: %v", i, ok)
		}
	}
	s.SweepListeners(t0.Add(time.Hour))
	if st := s.Stats(); st != (Stats{}) || len(s.listening) != 0 || s.keys() != 0 {
		t.Errorf("something stays: %+v", st)
	}
}

// TestRandomOperations checks the accounts against a recount after many random steps.
func TestRandomOperations(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s := New(Limits{Bytes: 30_000, BytesPerSource: 12_000}, t0)
	now := t0
	for range 20_000 {
		now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		k := dht.HashText(string(rune('a' + r.IntN(10))))
		id := dht.ValueID(1 + r.IntN(10))
		switch r.IntN(6) {
		case 0:
			s.Remove(k, id)
		case 1:
			s.Refresh(k, id, life, now)
		case 2:
			s.Expire(now, nil)
		default:
			src := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(5))})
			if r.IntN(5) == 0 {
				src = Local
			}
			size := r.IntN(400)
			if r.IntN(20) == 0 {
				size = r.IntN(6000)
			}
			v := value(id, src, size)
			v.Created = now
			s.Set(k, v, time.Duration(r.IntN(1200))*time.Second, now, nil)
		}
		recount(t, s)
	}
	s.Expire(now.Add(24*time.Hour), nil)
	if st := s.Stats(); st != (Stats{}) || len(s.byEnd)+len(s.bySize) != 0 {
		t.Errorf("something stays: %+v", st)
	}
	for i := range s.blobs.pages {
		if s.blobs.pages[i].used != 0 {
			t.Errorf("page %d still holds %d", i, s.blobs.pages[i].used)
		}
	}
}

func recount(t *testing.T, s *Store) {
	t.Helper()
	var got Stats
	for _, i := range s.heads {
		for ; i != 0; i = s.items.at(i).next {
			it := s.items.at(i)
			c := s.numbered[it.src]
			if c.ends.heap[it.pos] != i {
				t.Fatal("place in heap wrong")
			}
			if raw := s.blobs.get(it.blob, int(it.size)); len(raw) > 0 && (raw[0] != 'x' || raw[len(raw)-1] != 'x') {
				t.Fatal("bytes lost")
			}
			if c.atSize < 0 {
				got.LocalValues++
				got.LocalBytes += int64(it.size) + overhead
			} else {
				got.Values++
				got.Bytes += int64(it.size) + overhead
			}
		}
	}
	got.Keys, got.Sources = len(s.heads), len(s.sources)
	if st := s.Stats(); st != got {
		t.Fatalf("Stats = %+v, counted %+v", st, got)
	}
	if s.remote.bytes > s.limits.Bytes {
		t.Fatalf("%d bytes stored, limit %d", s.remote.bytes, s.limits.Bytes)
	}
	for i, c := range s.byEnd {
		if c.atEnd != i || i > 0 && s.byEnd[(i-1)/2].first() > c.first() {
			t.Fatal("order of ends broken")
		}
	}
}
