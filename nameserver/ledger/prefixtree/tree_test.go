package prefixtree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jirani/jirani/nameserver/ledger"
)

// reference is the specification written down directly: the root of a set of
// leaves at a depth.
func reference(leaves []ledger.MapLeaf, depth int) ledger.Hash {
	switch len(leaves) {
	case 0:
		return ledger.Hash{}
	case 1:
		return ledger.MapLeafHash(leaves[0])
	}
	var side [2][]ledger.MapLeaf
	for _, l := range leaves {
		b := l.Key.Bit(depth)
		side[b] = append(side[b], l)
	}
	return ledger.MapInnerHash(reference(side[0], depth+1), reference(side[1], depth+1))
}

func refRoot(m map[ledger.MapKey]Item) ledger.Hash {
	var leaves []ledger.MapLeaf
	for _, it := range m {
		leaves = append(leaves, ledger.MapLeaf{Key: it.Key, Index: it.Index, EntryHash: it.EntryHash})
	}
	return reference(leaves, 0)
}

// randomKey makes keys that often share long prefixes, so that folded runs,
// splits and deep leaves all occur.
func randomKey(r *rand.Rand) ledger.MapKey {
	var k ledger.MapKey
	binary.BigEndian.PutUint64(k[:], r.Uint64())
	binary.BigEndian.PutUint64(k[8:], r.Uint64())
	if r.IntN(2) == 0 {
		for i := range r.IntN(15) {
			k[i] = byte(r.IntN(2)) << r.IntN(8)
		}
	}
	return k
}

func randomItem(r *rand.Rand, i int) Item {
	return Item{Key: randomKey(r), Index: int64(i), EntryHash: sha256.Sum256([]byte{byte(i), byte(i >> 8)}), Tag: i%2 == 1}
}

func TestAgainstSpecification(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		tree, model := New(), map[ledger.MapKey]Item{}
		for step := range 20 {
			checkStep(t, r, tree, model, round*1000+step*37)
		}
		if live := tree.liveNodes(tree.root); live != tree.usedSlots() {
			t.Fatalf("round %d: %d nodes reachable, %d slots in use", round, live, tree.usedSlots())
		}
	}
}

func checkStep(t *testing.T, r *rand.Rand, tree *Tree, model map[ledger.MapKey]Item, base int) {
	t.Helper()
	before := tree.Root()
	tx := tree.Begin()
	next := map[ledger.MapKey]Item{}
	for k, v := range model {
		next[k] = v
	}
	for call := range 1 + r.IntN(3) {
		var items []Item
		for i := range r.IntN(12) {
			it := randomItem(r, base+call*12+i)
			for k := range next {
				if r.IntN(6) == 0 {
					it.Key = k
				}
				break
			}
			items = append(items, it)
			next[it.Key] = it
		}
		if err := tx.Insert(items...); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := tx.Root(), refRoot(next); got != want {
		t.Fatalf("root = %v, want %v", got, want)
	}
	if got := tree.Root(); got != before {
		t.Fatal("uncommitted insertion is visible")
	}
	if r.IntN(4) == 0 {
		tx.Rollback()
		return
	}
	tx.Commit(nil)
	clear(model)
	for k, v := range next {
		model[k] = v
	}
	checkReads(t, r, tree, model)
}

func checkReads(t *testing.T, r *rand.Rand, tree *Tree, model map[ledger.MapKey]Item) {
	t.Helper()
	if got := tree.Len(); got != int64(len(model)) {
		t.Fatalf("len = %d, want %d", got, len(model))
	}
	root := tree.Root()
	byIndex := map[int64]Item{}
	for _, it := range model {
		byIndex[it.Index] = it
	}
	prove := func(k ledger.MapKey) (p Path) {
		tree.View(func(v View) { p = v.Prove(k) })
		return p
	}
	for k, it := range model {
		f, ok := tree.Get(k)
		if !ok || f != (Found{it.Index, it.Tag}) {
			t.Fatalf("get = %v %v, want %d", f, ok, it.Index)
		}
		p := prove(k)
		if !p.Own {
			t.Fatal("own key not at the end of its path")
		}
		leaf := ledger.MapLeaf{Key: k, Index: it.Index, EntryHash: it.EntryHash}
		if err := (ledger.MapProof{Siblings: p.Siblings}).Included(root, leaf); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		k := randomKey(r)
		if _, ok := model[k]; ok {
			continue
		}
		p := prove(k)
		mp := ledger.MapProof{Siblings: p.Siblings}
		if p.HasEnd {
			it := byIndex[p.End.Index]
			mp.Other = &ledger.MapLeaf{Key: it.Key, Index: it.Index, EntryHash: it.EntryHash}
		}
		if err := mp.Absent(root, k); err != nil {
			t.Fatalf("absent: %v", err)
		}
	}
}

func (t *Tree) liveNodes(r ref) int {
	if r == 0 {
		return 0
	}
	if r.isLeaf() {
		return 1
	}
	n := t.inners.at(r.slot())
	return 1 + t.liveNodes(n.child(0)) + t.liveNodes(n.child(1))
}

func (t *Tree) usedSlots() int {
	return int(t.leaves.next) - len(t.leaves.free) + int(t.inners.next) - len(t.inners.free)
}

func TestCollision(t *testing.T) {
	a, b := Item{Index: 1}, Item{Index: 2}
	b.Key[31] = 1
	tx := New().Begin()
	if err := tx.Insert(a, b); !errors.Is(err, ErrCollision) {
		t.Fatalf("insert = %v, want ErrCollision", err)
	}
	tx.Rollback()
}

// TestReadersDuringCommits has readers verify proofs against the root of the
// version they see while a writer inserts, commits and rolls back.
func TestReadersDuringCommits(t *testing.T) {
	tree := New()
	var root ledger.Hash // changed only inside Commit
	items := make([]Item, 4000)
	for i := range items {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], uint64(i))
		items[i] = Item{Key: sha256.Sum256(k[:]), Index: int64(i), EntryHash: sha256.Sum256(k[:4])}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := g; ; i = (i + 7) % len(items) {
				select {
				case <-done:
					return
				default:
				}
				var p Path
				var at ledger.Hash
				tree.View(func(v View) { p, at = v.Prove(items[i].Key), root })
				leaf := ledger.MapLeaf{Key: items[i].Key, Index: items[i].Index, EntryHash: items[i].EntryHash}
				if p.Own {
					if err := (ledger.MapProof{Siblings: p.Siblings}).Included(at, leaf); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for i := 0; i < len(items); i += 40 {
		tx := tree.Begin()
		if err := tx.Insert(items[i : i+40]...); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			tx.Rollback()
			continue
		}
		next := tx.Root()
		tx.Commit(func() { root = next })
	}
	close(done)
	wg.Wait()
}

func benchItems(n int) []Item {
	items := make([]Item, n)
	for i := range items {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], uint64(i))
		h := sha256.Sum256(k[:])
		items[i] = Item{Key: h, Index: int64(i), EntryHash: h}
	}
	return items
}

func built(b *testing.B, items []Item) *Tree {
	b.Helper()
	tree := New()
	tx := tree.Begin()
	if err := tx.Insert(items...); err != nil {
		b.Fatal(err)
	}
	tx.Commit(nil)
	return tree
}

func BenchmarkBuild1M(b *testing.B) {
	items := benchItems(1 << 20)
	for b.Loop() {
		tree := built(b, items)
		b.ReportMetric(float64(tree.MemoryBytes())/float64(len(items)), "B/key")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/key")
}

func BenchmarkInsert256In1M(b *testing.B) {
	items := benchItems(1<<20 + 256)
	tree := built(b, items[:1<<20])
	for b.Loop() {
		tx := tree.Begin()
		if err := tx.Insert(items[1<<20:]...); err != nil {
			b.Fatal(err)
		}
		tx.Rollback()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*256), "ns/key")
}

func BenchmarkProve1M(b *testing.B) {
	items := benchItems(1 << 20)
	tree := built(b, items)
	i := 0
	for b.Loop() {
		i = (i + 7919) & (1<<20 - 1)
		tree.View(func(v View) { v.Prove(items[i].Key) })
	}
}
