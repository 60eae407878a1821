package wire

import (
	"encoding/binary"
	"math"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// mapKey reads a key; keys that are no str are skipped and match nothing.
func mapKey(r *msgpack.Reader) []byte {
	if r.Kind() == msgpack.Str {
		return r.Str()
	}
	r.Skip()
	return nil
}

// name reads a short text. Upstream's string reader takes bin as well.
func name(r *msgpack.Reader) []byte {
	if r.Kind() == msgpack.Bin {
		return r.Bin()
	}
	return r.Str()
}

// hash reads a bin of exactly 20 bytes (§2).
func hash(r *msgpack.Reader) dht.InfoHash {
	h, ok := dht.InfoHashFrom(r.Bin())
	if !ok {
		r.Fail("bin of 20 bytes expected")
	}
	return h
}

// number32 reads a transaction or socket id: an integer, or up to four bytes
// read as big-endian with zero bytes added on the right (§2).
func number32(r *msgpack.Reader) uint32 {
	var b []byte
	switch r.Kind() {
	case msgpack.Str:
		b = r.Str()
	case msgpack.Bin:
		b = r.Bin()
	default:
		return uint32(r.UintMax(math.MaxUint32))
	}
	var four [4]byte
	if len(b) > len(four) {
		r.Fail("transaction id of more than four bytes")
		return 0
	}
	copy(four[:], b)
	return binary.BigEndian.Uint32(four[:])
}

// token reads a write token.
func token(r *msgpack.Reader) []byte {
	b := r.Blob()
	if len(b) > maxTokenLen {
		r.Fail("token too long")
		return nil
	}
	return b
}

// families reads "w". Numbers of other systems are ignored (§1.5).
func families(r *msgpack.Reader) Want {
	n := r.ArrayLen()
	if n > maxFamilies {
		r.Fail("too many families")
		return 0
	}
	var w Want
	for ; n > 0; n-- {
		switch r.Int() {
		case dht.FamilyIPv4:
			w |= Want4
		case dht.FamilyIPv6:
			w |= Want6
		}
	}
	if w == 0 {
		return WantNone
	}
	return w
}

// valueIDs reads an array of value ids into dst.
func valueIDs(r *msgpack.Reader, dst []dht.ValueID) []dht.ValueID {
	n := r.ArrayLen()
	if n > maxIDs {
		r.Fail("too many value ids")
		return dst
	}
	for ; n > 0 && r.Err() == nil; n-- {
		dst = append(dst, dht.ValueID(r.Uint()))
	}
	return dst
}
