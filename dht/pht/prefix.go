package pht

import (
	"bytes"
	"crypto/sha1"
	"math/bits"

	"github.com/jirani/jirani/dht"
)

// Prefix is a bit string: the path from the root to a node of the trie. A key
// is a Prefix as well, whose content may be longer than its bits.
type Prefix struct {
	Content []byte // bit 0 is the most significant of byte 0
	Flags   []byte // bits of Content that are known, 1 for known; nil means all
	Bits    int    // length; Content holds at least that many
}

// PrefixOf is the prefix of all bits of b.
func PrefixOf(b []byte) Prefix { return Prefix{Content: b, Bits: 8 * len(b)} }

// Cut returns the first n bits, or all of Content if it is shorter. Unused low
// bits of the last byte are zero. The result shares no memory with p.
func (p Prefix) Cut(n int) Prefix {
	n = max(min(n, 8*len(p.Content)), 0)
	size := (n + 7) / 8
	cut := Prefix{Content: bytes.Clone(p.Content[:size]), Bits: n}
	if len(p.Flags) >= size && p.Flags != nil {
		cut.Flags = bytes.Clone(p.Flags[:size])
	}
	if rest := n % 8; rest != 0 {
		cut.Content[size-1] &= 0xff << (8 - rest)
	}
	return cut
}

// Full returns p with all of its content counted.
func (p Prefix) Full() Prefix { return p.Cut(8 * len(p.Content)) }

// Place is where the trie node of the prefix lives.
func (p Prefix) Place() dht.InfoHash {
	return sha1.Sum(append(bytes.Clone(p.Content), byte(p.Bits)))
}

// Sibling is what upstream takes for the other child of p's parent. Within the
// byte of the last bit it flips the bit of value 1<<((8−(Bits−1)) mod 8): one
// to the left of the last bit, or the byte's lowest when Bits−1 is a multiple
// of 8. Other nodes look there, so must we (§17).
func (p Prefix) Sibling() Prefix {
	s := Prefix{Content: bytes.Clone(p.Content), Flags: bytes.Clone(p.Flags), Bits: p.Bits}
	if p.Bits > 0 {
		shift := (8 - (p.Bits - 1)) & 7
		s.Content[(p.Bits-1)/8] ^= 1 << shift
	}
	return s
}

// Bit returns bit n of the content.
func (p Prefix) Bit(n int) bool { return p.Content[n/8]&(0x80>>(n%8)) != 0 }

// known reports whether bit n of the content is set by the key.
func (p Prefix) known(n int) bool {
	return n/8 >= len(p.Flags) || p.Flags[n/8]&(0x80>>(n%8)) != 0
}

// CommonBits counts the leading bits that p and o share.
func (p Prefix) CommonBits(o Prefix) int {
	limit := min(p.Bits, o.Bits)
	for i := 0; 8*i < limit; i++ {
		if x := p.Content[i] ^ o.Content[i]; x != 0 {
			return min(8*i+bits.LeadingZeros8(x), limit)
		}
	}
	return limit
}

// Equal compares lengths and content, not flags.
func (p Prefix) Equal(o Prefix) bool {
	return p.Bits == o.Bits && bytes.Equal(p.Content, o.Content)
}
