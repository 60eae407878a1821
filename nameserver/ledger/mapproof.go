package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// MaxMapDepth bounds a map proof. Trees here branch within the first 128 bits:
// servers keep that much of a key and refuse what would need more.
const MaxMapDepth = 128

// MapLeaf is what the map holds at a key.
type MapLeaf struct {
	Key       MapKey
	Index     int64
	EntryHash Hash // RFC 6962 leaf hash of the entry at Index
}

// MapProof is the path from the map root to where a key is or would be:
// siblings from the root down. An all-zero hash is the empty subtree.
//
// When the key is there, Other is nil and the leaf is told by the entry that
// goes along. When it is not, the path ends in the empty subtree (Other nil) or
// in another key's leaf with the same leading bits.
type MapProof struct {
	Siblings []Hash
	Other    *MapLeaf
}

// MapLeafHash returns SHA-256(0x01 ‖ key ‖ u64 index ‖ entry leaf hash).
func MapLeafHash(l MapLeaf) Hash {
	var b [1 + 32 + 8 + 32]byte
	b[0] = 1
	copy(b[1:], l.Key[:])
	binary.BigEndian.PutUint64(b[33:], uint64(l.Index))
	copy(b[41:], l.EntryHash[:])
	return sha256.Sum256(b[:])
}

// MapInnerHash returns SHA-256(0x02 ‖ left ‖ right).
func MapInnerHash(left, right Hash) Hash {
	var b [1 + 32 + 32]byte
	b[0] = 2
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// Bit returns bit i of the key, counted from the most significant.
func (k MapKey) Bit(i int) byte { return k[i/8] >> (7 - i%8) & 1 }

// Included checks that the map with this root holds leaf.
func (p MapProof) Included(root Hash, leaf MapLeaf) error {
	if p.Other != nil {
		return fmt.Errorf("%w: another key where inclusion is claimed", ErrProof)
	}
	return p.climb(root, leaf.Key, MapLeafHash(leaf))
}

// Absent checks that the map with this root holds nothing at key.
func (p MapProof) Absent(root Hash, key MapKey) error {
	if p.Other == nil {
		return p.climb(root, key, Hash{})
	}
	if p.Other.Key == key {
		return fmt.Errorf("%w: the key itself is in the map", ErrProof)
	}
	for i := range min(len(p.Siblings), MaxMapDepth) {
		if p.Other.Key.Bit(i) != key.Bit(i) {
			return fmt.Errorf("%w: other key leaves the path at bit %d", ErrProof, i)
		}
	}
	return p.climb(root, key, MapLeafHash(*p.Other))
}

func (p MapProof) climb(root Hash, key MapKey, h Hash) error {
	if len(p.Siblings) > MaxMapDepth {
		return fmt.Errorf("%w: map path of %d levels", ErrProof, len(p.Siblings))
	}
	for i := len(p.Siblings) - 1; i >= 0; i-- {
		if key.Bit(i) == 0 {
			h = MapInnerHash(h, p.Siblings[i])
		} else {
			h = MapInnerHash(p.Siblings[i], h)
		}
	}
	if h != root {
		return fmt.Errorf("%w: map path leads to another root", ErrProof)
	}
	return nil
}
