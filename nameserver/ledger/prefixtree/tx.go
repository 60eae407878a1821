package prefixtree

import (
	"bytes"
	"slices"

	"github.com/jirani/jirani/nameserver/ledger"
)

// Tx is a version in the making. It is used by one goroutine and must end in
// Commit or Rollback. Insert may be called several times; each sees the ones
// before it.
type Tx struct {
	t      *Tree
	root   ref
	count  int64
	fresh  []ref // slots this Tx took, each once
	spare  []ref // of fresh: inner nodes it dropped again, for reuse
	old    []ref // leaves and committed inner nodes this version no longer has
	sorted []pending
	bound  bool // an item to be entered once was there
}

// pending is an item on its way down: a key and the leaf made for it.
type pending struct {
	key  prefix
	leaf ref
	item int32 // in the slice given to Insert; -1: was in the tree
	once bool  // the key must be new
}

// Begin opens the one writer's transaction.
func (t *Tree) Begin() *Tx { return &Tx{t: t, root: t.root, count: t.count} }

// Root returns the root hash of this version.
func (x *Tx) Root() ledger.Hash { return x.t.hash(x.root) }

// Len returns the number of keys of this version.
func (x *Tx) Len() int64 { return x.count }

// Get looks a key up in this version.
func (x *Tx) Get(key ledger.MapKey) (Found, bool) { return x.t.get(x.root, key) }

// Insert enters the items; a key that is there already points to the new index
// from then on. Of several items with one key the last counts. An item entered
// Once whose key is there, or in an item before it, is ErrBound, and two
// different keys among items that agree in 128 bits are ErrCollision; after
// either only Rollback is left. For keys already in the tree the caller tells
// apart what Get finds.
func (x *Tx) Insert(items ...Item) error {
	if len(items) == 0 {
		return nil
	}
	x.sorted = slices.Grow(x.sorted[:0], len(items))
	for i := range items {
		x.sorted = append(x.sorted, pending{prefix(items[i].Key[:keySize]), x.newLeaf(&items[i]), int32(i), items[i].Once})
	}
	slices.SortFunc(x.sorted, func(a, b pending) int {
		if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
			return c
		}
		return int(a.item) - int(b.item)
	})
	sorted, err := x.dropRepeats(x.sorted, items)
	if err != nil {
		return err
	}
	x.count += int64(len(sorted))
	x.root = x.insert(x.root, 0, sorted)
	if x.bound {
		return ErrBound
	}
	return nil
}

func (x *Tx) newLeaf(it *Item) ref {
	slot := x.t.leaves.alloc(&x.t.mu)
	l := x.t.leaves.at(slot)
	l.key = prefix(it.Key[:keySize])
	l.setFound(Found{it.Index, it.Tag})
	l.hash = ledger.MapLeafHash(ledger.MapLeaf{Key: it.Key, Index: it.Index, EntryHash: it.EntryHash})
	r := ref(slot+1) | leafBit
	x.fresh = append(x.fresh, r)
	return r
}

func (x *Tx) dropRepeats(s []pending, items []Item) ([]pending, error) {
	out := s[:0]
	for i := range s {
		if i+1 < len(s) && s[i].key == s[i+1].key {
			if items[s[i].item].Key != items[s[i+1].item].Key {
				return nil, ErrCollision
			}
			if s[i+1].once {
				return nil, ErrBound
			}
			x.old = append(x.old, s[i].leaf)
			continue
		}
		out = append(out, s[i])
	}
	return out, nil
}

// insert enters items, sorted and different, into the subtree r whose slot is
// at depth, and returns the new subtree.
func (x *Tx) insert(r ref, depth int, items []pending) ref {
	switch {
	case len(items) == 0:
		return r
	case r == 0:
		return x.build(depth, items)
	case r.isLeaf():
		return x.insertAtLeaf(r, depth, items)
	}
	n := x.t.inners.at(r.slot())
	branch := n.branch()
	if branch > depth {
		if at := x.exit(r, depth, branch, items); at < branch {
			return x.split(r, depth, at, items)
		}
	}
	cut := cutAt(items, branch)
	l := x.insert(n.child(0), branch+1, items[:cut])
	rt := x.insert(n.child(1), branch+1, items[cut:])
	x.release(r)
	return x.newInner(l, rt, branch, depth, &items[0].key)
}

// exit returns the first bit in [depth, branch) where some item differs from
// the keys below r. Items are sorted, so the first and the last tell.
func (x *Tx) exit(r ref, depth, branch int, items []pending) int {
	k := x.t.someKey(r)
	return min(firstDiff(k, &items[0].key, depth, branch), firstDiff(k, &items[len(items)-1].key, depth, branch))
}

func firstDiff(a, b *prefix, from, to int) int {
	for i := from; i < to; {
		if i&7 == 0 && a[i>>3] == b[i>>3] {
			i += 8
			continue
		}
		if a.bit(i) != b.bit(i) {
			return i
		}
		i++
	}
	return to
}

// split puts a new branch at depth at, above the folded node r.
func (x *Tx) split(r ref, depth, at int, items []pending) ref {
	side := x.t.someKey(r).bit(at)
	key := &items[0].key
	cut := cutAt(items, at)
	with, other := items[:cut], items[cut:]
	if side == 1 {
		with, other = other, with
	}
	kept := x.insert(r, at+1, with)
	if len(with) == 0 {
		kept = x.refold(r, at+1)
	}
	made := x.build(at+1, other)
	if side == 0 {
		return x.newInner(kept, made, at, depth, key)
	}
	return x.newInner(made, kept, at, depth, key)
}

// refold copies r for a slot at another depth.
func (x *Tx) refold(r ref, depth int) ref {
	n := *x.t.inners.at(r.slot())
	h := x.t.slotHash(r, depth)
	x.release(r)
	made := x.allocInner()
	m := x.t.inners.at(made.slot())
	m.hash, m.left, m.right, m.depth = h, n.left, n.right, uint8(n.branch())|freshBit
	return made
}

func (x *Tx) insertAtLeaf(r ref, depth int, items []pending) ref {
	key := x.t.leaves.at(r.slot()).key
	i, same := slices.BinarySearchFunc(items, key, func(p pending, k prefix) int { return bytes.Compare(p.key[:], k[:]) })
	if same {
		x.bound = x.bound || items[i].once
		x.count--
		x.release(r)
		return x.build(depth, items)
	}
	all := make([]pending, 0, len(items)+1)
	all = append(all, items[:i]...)
	all = append(all, pending{key: key, leaf: r, item: -1})
	return x.build(depth, append(all, items[i:]...))
}

// build makes the subtree of the items, sorted and different, at depth.
func (x *Tx) build(depth int, items []pending) ref {
	if len(items) == 1 {
		return items[0].leaf
	}
	first, last := &items[0].key, &items[len(items)-1].key
	branch := firstDiff(first, last, depth, 8*keySize)
	cut := cutAt(items, branch)
	l := x.build(branch+1, items[:cut])
	r := x.build(branch+1, items[cut:])
	return x.newInner(l, r, branch, depth, first)
}

// cutAt returns the index of the first item with a one at the bit.
func cutAt(items []pending, bit int) int {
	lo, hi := 0, len(items)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if items[m].key.bit(bit) == 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// newInner makes the node over l and r; key is any key below it.
func (x *Tx) newInner(l, r ref, branch, depth int, key *prefix) ref {
	h := fold(ledger.MapInnerHash(x.t.hash(l), x.t.hash(r)), key, branch, depth)
	made := x.allocInner()
	n := x.t.inners.at(made.slot())
	n.hash, n.depth = h, uint8(branch)|freshBit
	n.setChildren(l, r)
	return made
}

func (x *Tx) allocInner() ref {
	if n := len(x.spare); n > 0 {
		r := x.spare[n-1]
		x.spare = x.spare[:n-1]
		return r
	}
	r := ref(x.t.inners.alloc(&x.t.mu) + 1)
	x.fresh = append(x.fresh, r)
	return r
}

// release drops r from this version. An inner node of this Tx can be used
// again at once; what is committed only when no reader can see it any more.
func (x *Tx) release(r ref) {
	if !r.isLeaf() && x.t.inners.at(r.slot()).depth&freshBit != 0 {
		x.spare = append(x.spare, r)
		return
	}
	x.old = append(x.old, r)
}

// Commit makes this version the tree's. then, if not nil, runs while readers
// are held off, so that the caller can swap what belongs to the version.
func (x *Tx) Commit(then func()) {
	t := x.t
	for _, r := range x.fresh {
		if !r.isLeaf() {
			t.inners.at(r.slot()).depth &^= freshBit
		}
	}
	t.mu.Lock()
	t.root, t.count = x.root, x.count
	if then != nil {
		then()
	}
	t.mu.Unlock()
	t.giveBack(x.old)
	t.giveBack(x.spare)
	*x = Tx{}
}

// Rollback forgets this version. After Commit it does nothing.
func (x *Tx) Rollback() {
	if x.t != nil {
		x.t.giveBack(x.fresh)
	}
	*x = Tx{}
}

func (t *Tree) giveBack(refs []ref) {
	for _, r := range refs {
		if r.isLeaf() {
			t.leaves.free = append(t.leaves.free, r.slot())
		} else {
			t.inners.free = append(t.inners.free, r.slot())
		}
	}
}
