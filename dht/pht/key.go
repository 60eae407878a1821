package pht

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrKey marks a key that does not fit its specification.
var ErrKey = errors.New("pht: key does not fit its specification")

// Limits on specifications, whose prefixes are packed into one value.
const (
	maxFields    = 64
	maxFieldSize = 1 << 12 // bytes
)

// Key is the content of the fields of an index.
type Key map[string][]byte

// Spec names the fields of an index and the largest size of each in bytes.
type Spec map[string]int

// check reports whether k has the fields of s, each within its size.
func (s Spec) check(k Key) error {
	if len(k) == 0 || len(k) != len(s) || len(k) > maxFields {
		return fmt.Errorf("%w: %d fields, want %d", ErrKey, len(k), len(s))
	}
	for name, b := range k {
		size, ok := s[name]
		if !ok || len(b) > size || size > maxFieldSize {
			return fmt.Errorf("%w: field %q of %d bytes", ErrKey, name, len(b))
		}
	}
	return nil
}

// Linearize makes one bit string of a key (§17). Each field is padded to the
// largest size of the specification plus one byte, the first bit after its
// content set. One field is the prefix itself, of the length of its content;
// of several the bits are taken in turn, by the order of the fields' names,
// and all of them count.
func (s Spec) Linearize(k Key) (Prefix, error) {
	if err := s.check(k); err != nil {
		return Prefix{}, err
	}
	size := slices.Max(slices.Collect(maps.Values(s))) + 1
	var fields []Prefix
	for _, name := range slices.Sorted(maps.Keys(k)) {
		fields = append(fields, pad(k[name], size))
	}
	if len(fields) == 1 {
		return fields[0], nil
	}
	return interleave(fields, size), nil
}

// pad extends b to size bytes: a 1 bit, then zeros. Flags mark the content as
// known and the padding as unknown.
func pad(b []byte, size int) Prefix {
	p := Prefix{Content: make([]byte, size), Flags: make([]byte, size), Bits: 8 * len(b)}
	copy(p.Content, b)
	p.Content[len(b)] = 0x80
	for i := range b {
		p.Flags[i] = 0xff
	}
	return p
}

// interleave takes one bit of each field in turn.
func interleave(fields []Prefix, size int) Prefix {
	out := Prefix{Content: make([]byte, size*len(fields)), Flags: make([]byte, size*len(fields)), Bits: 8 * size * len(fields)}
	at := 0
	for bit := range 8 * size {
		for _, f := range fields {
			if f.Bit(bit) {
				out.Content[at/8] |= 0x80 >> (at % 8)
			}
			if f.known(bit) {
				out.Flags[at/8] |= 0x80 >> (at % 8)
			}
			at++
		}
	}
	return out
}
