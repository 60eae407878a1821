package pht_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/pht"
	"github.com/jirani/jirani/dht/vectors"
)

func loadVectors(t testing.TB) map[string][]byte {
	t.Helper()
	return vectors.ByName(t, "../testdata/vectors/values-crypto.jsonl")
}

func TestPrefixVectors(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t)
	key, err := pht.Spec{"name": 3}.Linearize(pht.Key{"name": []byte("foo")})
	if err != nil || !bytes.Equal(key.Content, []byte{0x66, 0x6f, 0x6f, 0x80}) || key.Bits != 24 {
		t.Fatalf("Linearize = %x, %d bits, %v", key.Content, key.Bits, err)
	}
	for _, n := range []int{0, 1, 2, 7, 8, 9, 16, 31} {
		p := key.Cut(n)
		if want := vs[fmt.Sprintf("pht/prefix/%d", n)]; !bytes.Equal(p.Content, want) || p.Bits != n {
			t.Errorf("Cut(%d) = %x, %d bits, want %x", n, p.Content, p.Bits, want)
		}
		place := p.Place()
		if want := vs[fmt.Sprintf("pht/hash/%d", n)]; !bytes.Equal(place[:], want) {
			t.Errorf("Place of %d bits = %v, want %x", n, place, want)
		}
		if got, want := p.Sibling().Content, vs[fmt.Sprintf("pht/sibling/%d", n)]; !bytes.Equal(got, want) {
			t.Errorf("Sibling of %d bits = %x, want %x", n, got, want)
		}
	}
}

func TestEntryVector(t *testing.T) {
	t.Parallel()
	v, _, err := dht.ParseValue(loadVectors(t)["type/IndexEntry"])
	if err != nil {
		t.Fatal(err)
	}
	e, err := pht.ParseEntry(v.Data)
	if err != nil || e.Ref.ID != 99 || e.Ref.Place != dht.HashText("foo") || !bytes.Equal(e.Prefix, []byte("foo\x80")) {
		t.Errorf("ParseEntry = %+v, %v", e, err)
	}
	if got := e.Append(nil); !bytes.Equal(got, v.Data) {
		t.Errorf("Append = %x, want %x", got, v.Data)
	}
}

func TestLinearize(t *testing.T) {
	t.Parallel()
	// Two fields of one byte, bits in turn, 'a' first: a = 1111 0000, b = 0000 0001.
	p, err := pht.Spec{"b": 1, "a": 1}.Linearize(pht.Key{"a": {0xf0}, "b": {0x01}})
	if err != nil || !bytes.Equal(p.Content, []byte{0xaa, 0x01, 0xc0, 0x00}) || !bytes.Equal(p.Flags, []byte{0xff, 0xff, 0, 0}) || p.Bits != 32 {
		t.Errorf("two fields: %x, flags %x, %d bits, %v", p.Content, p.Flags, p.Bits, err)
	}
	p, err = pht.Spec{"a": 2, "b": 1}.Linearize(pht.Key{"a": {}, "b": {0xff}})
	if err != nil || !bytes.Equal(p.Content, []byte{0xd5, 0x55, 0x40, 0, 0, 0}) || !bytes.Equal(p.Flags, []byte{0x55, 0x55, 0, 0, 0, 0}) {
		t.Errorf("an empty field: %x, flags %x, %v", p.Content, p.Flags, err)
	}
	spec := pht.Spec{"a": 2}
	for _, k := range []pht.Key{nil, {"a": []byte("abc")}, {"b": {}}, {"a": {}, "b": {}}} {
		if _, err := spec.Linearize(k); !errors.Is(err, pht.ErrKey) {
			t.Errorf("Linearize(%v): %v", k, err)
		}
	}
}

// memory is a Network of one map.
type memory struct {
	mu     sync.Mutex
	values map[dht.InfoHash][]*dht.Value // guarded by mu
	gets   int                           // guarded by mu
	change chan struct{}                 // guarded by mu; closed at each put
}

func newMemory() *memory {
	return &memory{values: make(map[dht.InfoHash][]*dht.Value), change: make(chan struct{})}
}

func (m *memory) at(place dht.InfoHash) ([]*dht.Value, chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	return m.values[place], m.change
}

func (m *memory) Get(_ context.Context, place dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error {
	values, _ := m.at(place)
	for _, v := range values {
		if q.Match(v) && !yield(v) {
			break
		}
	}
	return nil
}

func (m *memory) Put(_ context.Context, place dht.InfoHash, v *dht.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[place] = append(m.values[place], v)
	close(m.change)
	m.change = make(chan struct{})
	return nil
}

func (m *memory) Watch(ctx context.Context, place dht.InfoHash, q dht.Query, yield func(*dht.Value) bool) error {
	for {
		values, change := m.at(place)
		for _, v := range values {
			if q.Match(v) && !yield(v) {
				return nil
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func ref(s string) pht.Ref { return pht.Ref{Place: dht.HashText(s), ID: 1} }

// The first insert of an index writes what the capture shows: a canary and
// the entry at the root.
func TestFirstInsertMatchesCapture(t *testing.T) {
	t.Parallel()
	net := newMemory()
	x := pht.New("test", pht.Spec{"name": 3}, net, nil)
	leaf, err := x.Insert(t.Context(), pht.Key{"name": []byte("foo")}, pht.Ref{Place: dht.HashText("foo"), ID: 99})
	if err != nil || leaf.Bits != 0 {
		t.Fatalf("at %d bits, %v", leaf.Bits, err)
	}
	root := net.values[leaf.Place()]
	if len(net.values) != 1 || len(root) != 2 || root[0].UserType != "index.pht.test.canary" || len(root[0].Data) != 0 {
		t.Fatalf("root holds %d values at %d places", len(root), len(net.values))
	}
	want, _, err := dht.ParseValue(loadVectors(t)["type/IndexEntry"])
	if err != nil || !root[1].SameContent(want) {
		t.Errorf("entry %+v, want %+v", root[1], want)
	}
}

// Every entry of a few hundred is found exactly, by an index that did not put
// it, and in few steps, as long as those who put them follow the trie.
func TestInsertAndLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := newMemory()
		spec := pht.Spec{"name": 8}
		writer := pht.New("test", spec, net, nil)
		key := func(i int) pht.Key {
			h := dht.HashText(fmt.Sprint(i))
			return pht.Key{"name": h[:8]}
		}
		const entries = 200
		ctx, stop := context.WithCancel(t.Context())
		for i := range entries {
			leaf, err := writer.Insert(ctx, key(i), ref(fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			go writer.Follow(ctx, key(i), ref(fmt.Sprint(i)), leaf) // ends with stop
			synctest.Wait()
		}
		stop()
		synctest.Wait()
		reader := pht.New("test", spec, net, nil)
		net.gets = 0
		for i := range entries {
			got, err := reader.Lookup(t.Context(), key(i))
			if err != nil || len(got) != 1 || got[0].Ref != ref(fmt.Sprint(i)) {
				t.Errorf("lookup %d: %+v, %v", i, got, err)
			}
		}
		if perLookup := net.gets / entries; perLookup > 16 {
			t.Errorf("%d gets per lookup", perLookup)
		}
		if got, err := reader.Lookup(t.Context(), pht.Key{"name": []byte("nowhere")}); err != nil || len(got) != 0 {
			t.Errorf("found %v, %v", got, err)
		}
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	net := newMemory()
	x := pht.New("test", pht.Spec{"name": 4}, net, nil)
	for _, name := range []string{"abc", "abd", "xyz"} {
		if _, err := x.Insert(t.Context(), pht.Key{"name": []byte(name)}, ref(name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := x.Nearest(t.Context(), pht.Key{"name": []byte("abcd")})
	if err != nil || len(got) != 1 || got[0].Ref != ref("abc") {
		t.Errorf("nearest to abcd: %+v, %v", got, err)
	}
	empty := pht.New("empty", pht.Spec{"name": 4}, newMemory(), nil)
	if got, err := empty.Nearest(t.Context(), pht.Key{"name": []byte("abcd")}); err != nil || len(got) != 0 {
		t.Errorf("empty index: %v, %v", got, err)
	}
}

// A canary one bit deeper makes Follow insert the entry there.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := newMemory()
		x := pht.New("test", pht.Spec{"name": 3}, net, nil)
		key := pht.Key{"name": []byte("foo")}
		leaf, err := x.Insert(t.Context(), key, ref("foo"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- x.Follow(t.Context(), key, ref("foo"), leaf) }() // ends with the entry's life
		synctest.Wait()
		deeper := pht.PrefixOf([]byte("foo\x80")).Cut(1)
		if err := net.Put(t.Context(), deeper.Place(), &dht.Value{UserType: "index.pht.test.canary"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		values, _ := net.at(deeper.Place())
		entries := 0
		for _, v := range values {
			if v.UserType == "index.pht.test" {
				entries++
			}
		}
		if entries != 1 {
			t.Errorf("%d entries one bit deeper", entries)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Follow: %v", err)
		}
	})
}

func FuzzPHTEntry(f *testing.F) {
	v, _, err := dht.ParseValue(loadVectors(f)["type/IndexEntry"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := pht.ParseEntry(b)
		if err != nil {
			if !errors.Is(err, pht.ErrMalformed) {
				t.Fatalf("error of no family: %v", err)
			}
			return
		}
		again, err := pht.ParseEntry(e.Append(nil))
		if err != nil || again.Ref != e.Ref || !bytes.Equal(again.Prefix, e.Prefix) {
			t.Fatalf("%+v reads back as %+v, %v", e, again, err)
		}
	})
}
