package routing

import (
	"encoding/binary"

	"github.com/jirani/jirani/dht"
)

// Closer reports whether a is nearer to target than b: XOR distance as a big-endian number
// (docs/protocols/opendht.md §1.1).
func Closer(a, b, target dht.InfoHash) bool { return compare(a, b, target) < 0 }

// compare orders a and b by their distance to target.
func compare(a, b, target dht.InfoHash) int {
	for i := 0; i < 16; i += 8 {
		t := binary.BigEndian.Uint64(target[i:])
		x, y := binary.BigEndian.Uint64(a[i:])^t, binary.BigEndian.Uint64(b[i:])^t
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	t := binary.BigEndian.Uint32(target[16:])
	x, y := binary.BigEndian.Uint32(a[16:])^t, binary.BigEndian.Uint32(b[16:])^t
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
