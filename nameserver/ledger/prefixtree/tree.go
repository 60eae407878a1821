// Package prefixtree keeps the map of the name ledger in memory: the binary
// prefix tree that package ledger specifies, with its hashes, as the lookup
// index and the source of proofs at once.
//
// # Shape
//
// Only branching nodes are stored; a run of levels with one child, whose
// siblings are all empty, is folded into the node below it. A node's hash is
// the hash at its parent's slot, with the folded levels hashed in. A node costs
// 41 bytes and a leaf 53, and there are as many of one as of the other: 94
// bytes per key. That is reached by keeping 128 bits of each key: two keys
// that agree in 128 bits are refused with [ErrCollision] (finding such a pair
// takes 2^64 hashes and gains its finder one refused name).
//
// # Versions
//
// Nodes are never changed once committed: an insertion copies the path and
// frees the old copies when its [Tx] commits, which is one pointer swap.
// Readers therefore wait for a swap only, never for an insertion, and a Tx that
// is rolled back leaves nothing. Nodes lie in chunks of fixed size: growing one
// slice of them would stop the world for a second at ten million keys.
package prefixtree

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/jirani/jirani/nameserver/ledger"
)

// ErrCollision says that two different keys share their first 128 bits.
var ErrCollision = errors.New("prefixtree: keys too alike")

// ErrBound says that a key that had to be new is in the tree, or twice among
// the items.
var ErrBound = errors.New("prefixtree: key is bound already")

// keySize is how much of a key is kept, in bytes.
const keySize = 16

// MaxIndex bounds log indexes: five bytes, one bit of it a tag.
const MaxIndex = 1<<39 - 1

// ref names a node: 0 is the empty subtree, the top bit tells leaves, the rest
// is a slot plus one.
type ref uint32

const leafBit ref = 1 << 31

func (r ref) isLeaf() bool { return r&leafBit != 0 }
func (r ref) slot() uint32 { return uint32(r&^leafBit) - 1 }

type prefix [keySize]byte

func (p *prefix) bit(i int) byte { return p[i>>3] >> (7 - i&7) & 1 }

// leaf is 53 bytes; its arrays keep it free of padding.
type leaf struct {
	key   prefix
	index [5]byte // big-endian: tag bit, log index
	hash  ledger.Hash
}

// inner is 41 bytes. The branch depth is below 128, which leaves a bit to mark
// nodes made by the transaction under way.
type inner struct {
	hash  ledger.Hash
	left  [4]byte
	right [4]byte
	depth uint8
}

const freshBit = 0x80

func (n *inner) child(bit byte) ref {
	if bit == 0 {
		return ref(binary.LittleEndian.Uint32(n.left[:]))
	}
	return ref(binary.LittleEndian.Uint32(n.right[:]))
}

func (n *inner) setChildren(l, r ref) {
	binary.LittleEndian.PutUint32(n.left[:], uint32(l))
	binary.LittleEndian.PutUint32(n.right[:], uint32(r))
}

func (n *inner) branch() int { return int(n.depth &^ freshBit) }

// Item is one key to enter.
type Item struct {
	Key       ledger.MapKey
	Index     int64
	EntryHash ledger.Hash
	// Tag is a bit the caller gets back with the index: which of an entry's
	// keys this is.
	Tag bool
	// Once says that the key must not be there yet; see [ErrBound].
	Once bool
}

// Found is what the tree knows of a key.
type Found struct {
	Index int64
	Tag   bool
}

// Tree is a map. One Tx at a time may be open; reads may run at any time.
type Tree struct {
	mu    sync.RWMutex // guards what readers see: root, count, the chunk tables
	root  ref
	count int64

	leaves arena[leaf]
	inners arena[inner]
}

// New returns an empty tree.
func New() *Tree { return &Tree{} }

// Len returns the number of keys.
func (t *Tree) Len() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.count
}

// Root returns the root hash.
func (t *Tree) Root() ledger.Hash {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.hash(t.root)
}

// MemoryBytes returns the size of the chunks held.
func (t *Tree) MemoryBytes() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.leaves.bytes() + t.inners.bytes()
}

// Get looks a key up.
func (t *Tree) Get(key ledger.MapKey) (Found, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.get(t.root, key)
}

func (t *Tree) get(r ref, key ledger.MapKey) (Found, bool) {
	p := prefix(key[:keySize])
	for r != 0 && !r.isLeaf() {
		n := t.inners.at(r.slot())
		r = n.child(p.bit(n.branch()))
	}
	if r == 0 {
		return Found{}, false
	}
	l := t.leaves.at(r.slot())
	return l.found(), l.key == p
}

func (l *leaf) found() Found {
	v := uint64(l.index[0])<<32 | uint64(binary.BigEndian.Uint32(l.index[1:]))
	return Found{Index: int64(v & MaxIndex), Tag: v>>39 != 0}
}

func (l *leaf) setFound(f Found) {
	v := uint64(f.Index)
	if f.Tag {
		v |= 1 << 39
	}
	l.index[0] = byte(v >> 32)
	binary.BigEndian.PutUint32(l.index[1:], uint32(v))
}

func (t *Tree) hash(r ref) ledger.Hash {
	switch {
	case r == 0:
		return ledger.Hash{}
	case r.isLeaf():
		return t.leaves.at(r.slot()).hash
	}
	return t.inners.at(r.slot()).hash
}

// someKey returns a key below r; all of them agree above r's branch.
func (t *Tree) someKey(r ref) *prefix {
	for !r.isLeaf() {
		r = t.inners.at(r.slot()).child(0)
	}
	return &t.leaves.at(r.slot()).key
}

// View is a look at one version of the tree. It is valid only inside the
// function given to [Tree.View].
type View struct {
	t    *Tree
	root ref
}

// View runs f on the committed version; commits wait for it, so f should do no
// more than prove and look up. What f reads from elsewhere under it is of the
// same version, if the caller's commits change both inside [Tx.Commit].
func (t *Tree) View(f func(View)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	f(View{t, t.root})
}

// Get looks a key up.
func (v View) Get(key ledger.MapKey) (Found, bool) { return v.t.get(v.root, key) }

// Path is where a key's path ends, with the siblings from the root down.
type Path struct {
	Siblings []ledger.Hash
	// End is the leaf the path ends in, if HasEnd; it is the key's own when
	// Own. Otherwise the path ends in the empty subtree.
	End    Found
	HasEnd bool
	Own    bool
}

// Prove returns the path of a key.
func (v View) Prove(key ledger.MapKey) Path {
	p := prefix(key[:keySize])
	path := Path{Siblings: make([]ledger.Hash, 0, 32)}
	r, depth := v.root, 0
	for r != 0 && !r.isLeaf() {
		n := v.t.inners.at(r.slot())
		d := n.branch()
		if d > depth {
			at, off := v.foldedExit(r, depth, d, &p)
			if at < d {
				// The key leaves the folded run: beside it is the whole run
				// below, and the key's own side is empty.
				path.Siblings = append(path.Siblings, make([]ledger.Hash, at-depth)...)
				path.Siblings = append(path.Siblings, off)
				return path
			}
			path.Siblings = append(path.Siblings, make([]ledger.Hash, d-depth)...)
		}
		bit := p.bit(d)
		path.Siblings = append(path.Siblings, v.t.hash(n.child(1-bit)))
		r, depth = n.child(bit), d+1
	}
	if r != 0 {
		l := v.t.leaves.at(r.slot())
		path.End, path.HasEnd, path.Own = l.found(), true, l.key == p
	}
	return path
}

// foldedExit compares p with the keys below r in the bits [depth, branch) and
// returns the first that differs and the hash of r's subtree just below it, or
// branch if none does.
func (v View) foldedExit(r ref, depth, branch int, p *prefix) (int, ledger.Hash) {
	k := v.t.someKey(r)
	for i := depth; i < branch; i++ {
		if k.bit(i) != p.bit(i) {
			return i, v.t.slotHash(r, i+1)
		}
	}
	return branch, ledger.Hash{}
}

// slotHash returns the hash of the subtree r as it stands at depth, which is
// not below r's branch: the folded levels between are hashed in.
func (t *Tree) slotHash(r ref, depth int) ledger.Hash {
	if r == 0 || r.isLeaf() {
		return t.hash(r)
	}
	n := t.inners.at(r.slot())
	h := ledger.MapInnerHash(t.hash(n.child(0)), t.hash(n.child(1)))
	return fold(h, t.someKey(r), n.branch(), depth)
}

// fold hashes the levels above from up to and including to, where only the
// branch along key is not empty.
func fold(h ledger.Hash, key *prefix, from, to int) ledger.Hash {
	for i := from - 1; i >= to; i-- {
		if key.bit(i) == 0 {
			h = ledger.MapInnerHash(h, ledger.Hash{})
		} else {
			h = ledger.MapInnerHash(ledger.Hash{}, h)
		}
	}
	return h
}
