package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxDepth bounds nesting in skipped and raw objects. The deepest structure of
// the DHT has seven levels.
const MaxDepth = 32

// ErrMalformed is wrapped by every error of this package.
var ErrMalformed = errors.New("msgpack: malformed input")

// Error says what was wrong and at which byte.
type Error struct {
	Offset int    // from the start of the buffer
	What   string // what was expected or violated
}

// Error is one line.
func (e *Error) Error() string { return fmt.Sprintf("msgpack: %s at offset %d", e.What, e.Offset) }

// Unwrap makes errors.Is(err, ErrMalformed) hold.
func (e *Error) Unwrap() error { return ErrMalformed }

// Reader walks one buffer. The zero value reads nothing; make one with
// [NewReader] or set it anew with [Reader.Reset]. After the first error every
// method returns a zero value. Slices it returns alias the buffer.
type Reader struct {
	b   []byte
	off int
	err *Error
}

// NewReader returns a reader at the start of b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Reset puts the reader at the start of b and forgets its error.
func (r *Reader) Reset(b []byte) { *r = Reader{b: b} }

// Err returns the first error, nil if there was none.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Offset is the position of the next byte.
func (r *Reader) Offset() int { return r.off }

// Rest returns the bytes not read yet.
func (r *Reader) Rest() []byte { return r.b[r.off:] }

// Fail records an error at the present position unless there is one already.
// Decoders use it for violations of their own.
func (r *Reader) Fail(what string) {
	if r.err == nil {
		r.err = &Error{Offset: r.off, What: what}
	}
}

// Kind tells what comes next without reading it.
func (r *Reader) Kind() Kind {
	if r.err != nil || r.off >= len(r.b) {
		return Invalid
	}
	return kindOf(r.b[r.off])
}

// take returns the next n bytes.
func (r *Reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.off) {
		r.Fail("truncated object")
		return nil
	}
	b := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return b
}

// head reads the head byte if it is of kind k.
func (r *Reader) head(k Kind) (byte, bool) {
	if r.err != nil {
		return 0, false
	}
	if got := r.Kind(); got != k {
		r.Fail(k.String() + " expected, " + got.String() + " found")
		return 0, false
	}
	c := r.b[r.off]
	r.off++
	return c, true
}

// be reads an n-byte big-endian number, n in 1, 2, 4, 8.
func (r *Reader) be(n uint64) uint64 {
	b := r.take(n)
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Nil reads a nil.
func (r *Reader) Nil() { r.head(Nil) }

// Bool reads a bool.
func (r *Reader) Bool() bool {
	c, _ := r.head(Bool)
	return c == 0xc3
}

// number reads any integer form: its 64 bits and whether it is negative.
func (r *Reader) number() (v uint64, negative bool) {
	c, ok := r.head(Int)
	switch {
	case !ok:
		return 0, false
	case c <= 0x7f:
		return uint64(c), false
	case c >= 0xe0:
		return uint64(int64(int8(c))), true
	case c <= 0xcf:
		return r.be(1 << (c - 0xcc)), false
	}
	n := uint64(1) << (c - 0xd0)
	shift := 64 - 8*n
	s := int64(r.be(n)<<shift) >> shift
	return uint64(s), s < 0
}

// Uint reads an integer of any form that is not negative.
func (r *Reader) Uint() uint64 {
	v, negative := r.number()
	if negative {
		r.Fail("negative integer")
		return 0
	}
	return v
}

// UintMax reads an integer from 0 to limit.
func (r *Reader) UintMax(limit uint64) uint64 {
	v := r.Uint()
	if v > limit {
		r.Fail("integer out of range")
		return 0
	}
	return v
}

// Int reads an integer that fits int64.
func (r *Reader) Int() int64 {
	v, negative := r.number()
	if !negative && v > 1<<63-1 {
		r.Fail("integer out of range")
		return 0
	}
	return int64(v)
}

// Str reads the bytes of a str. They are not checked for UTF-8.
func (r *Reader) Str() []byte {
	c, ok := r.head(Str)
	switch {
	case !ok:
		return nil
	case c <= 0xbf:
		return r.take(uint64(c & 0x1f))
	}
	return r.take(r.be(1 << (c - 0xd9)))
}

// Bin reads the bytes of a bin.
func (r *Reader) Bin() []byte {
	c, ok := r.head(Bin)
	if !ok {
		return nil
	}
	return r.take(r.be(1 << (c - 0xc4)))
}

// ArrayLen reads an array header. The count is at most the bytes left.
func (r *Reader) ArrayLen() int {
	c, ok := r.head(Array)
	switch {
	case !ok:
		return 0
	case c <= 0x9f:
		return r.count(uint64(c&0x0f), 1)
	}
	return r.count(r.be(2<<(c-0xdc)), 1)
}

// MapLen reads a map header. The count is at most half of the bytes left.
func (r *Reader) MapLen() int {
	c, ok := r.head(Map)
	switch {
	case !ok:
		return 0
	case c <= 0x8f:
		return r.count(uint64(c&0x0f), 2)
	}
	return r.count(r.be(2<<(c-0xde)), 2)
}

// count refuses n elements of at least size bytes each where fewer are left.
func (r *Reader) count(n, size uint64) int {
	if r.err == nil && n*size > uint64(len(r.b)-r.off) {
		r.Fail("more elements announced than bytes left")
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Ext reads an extension object: its type and its bytes.
func (r *Reader) Ext() (int8, []byte) {
	c, ok := r.head(Ext)
	if !ok {
		return 0, nil
	}
	var n uint64
	if c >= 0xd4 {
		n = 1 << (c - 0xd4)
	} else {
		n = r.be(1 << (c - 0xc7))
	}
	kind := r.be(1)
	return int8(kind), r.take(n)
}

// Timestamp reads the timestamp extension: seconds since 1970, nanoseconds.
func (r *Reader) Timestamp() (sec int64, nsec uint32) {
	kind, b := r.Ext()
	switch {
	case r.err != nil:
	case kind != -1:
		r.Fail("timestamp expected")
	case len(b) == 4:
		return int64(binary.BigEndian.Uint32(b)), 0
	case len(b) == 8:
		v := binary.BigEndian.Uint64(b)
		sec, nsec = int64(v&(1<<34-1)), uint32(v>>34)
	case len(b) == 12:
		sec, nsec = int64(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b)
	default:
		r.Fail("timestamp of odd length")
	}
	if nsec >= 1e9 {
		r.Fail("timestamp nanoseconds out of range")
		return 0, 0
	}
	return sec, nsec
}
