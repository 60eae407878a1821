package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

const flagOwner = 1 << 2

func appendString8(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s))), s...)
}

func appendString16(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func (e *Register) appendBody(dst []byte) []byte {
	flags := byte(e.Form)
	if e.Owner != nil {
		flags |= flagOwner
	}
	dst = append(dst, flags)
	dst = appendString8(dst, e.Name)
	dst = appendString8(dst, e.Key)
	dst = append(dst, e.Address[:]...)
	if e.Owner != nil {
		dst = append(dst, e.Owner[:]...)
	}
	dst = append(dst, e.SPKIHash[:]...)
	return append(dst, e.SignatureHash[:]...)
}

func (e *Register) parseBody(r *reader) {
	flags := r.u8()
	e.Form = KeyForm(flags &^ flagOwner)
	e.Name, e.Key = r.string8(), r.string8()
	r.bytes(e.Address[:])
	if flags&flagOwner != 0 {
		e.Owner = new(Address)
		r.bytes(e.Owner[:])
	}
	r.bytes(e.SPKIHash[:])
	r.bytes(e.SignatureHash[:])
	if e.Form >= keyForms || e.Name == "" || e.Key == e.Name || !plainText(e.Name) || !plainText(e.Key) {
		r.fail("flags, name or key")
	}
}

func (e *MapRoot) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, e.Size)
	dst = binary.BigEndian.AppendUint64(dst, e.Count)
	return append(dst, e.Root[:]...)
}

func (e *MapRoot) parseBody(r *reader) {
	e.Size, e.Count = r.u64(), r.u64()
	r.bytes(e.Root[:])
}

func (e *Tombstone) appendBody(dst []byte) []byte {
	return appendString8(appendString8(dst, e.Key), e.Reason)
}

func (e *Tombstone) parseBody(r *reader) {
	e.Key, e.Reason = r.string8(), r.string8()
	if e.Key == "" || !plainText(e.Key) || !plainText(e.Reason) {
		r.fail("key or reason")
	}
}

// plainText tells whether every store and page can carry s: UTF-8 without NUL.
func plainText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func (e *Key) appendBody(dst []byte) []byte {
	dst = appendString16(dst, e.VKey)
	dst = append(dst, e.Old[:]...)
	return append(dst, e.New[:]...)
}

func (e *Key) parseBody(r *reader) {
	e.VKey = r.string16()
	r.bytes(e.Old[:])
	r.bytes(e.New[:])
}

func (e *Policy) appendBody(dst []byte) []byte { return append(dst, e.Hash[:]...) }

func (e *Policy) parseBody(r *reader) { r.bytes(e.Hash[:]) }

func (e *Import) appendBody(dst []byte) []byte {
	dst = appendString16(dst, e.Origin)
	dst = binary.BigEndian.AppendUint64(dst, e.Size)
	return append(dst, e.Root[:]...)
}

func (e *Import) parseBody(r *reader) {
	e.Origin = r.string16()
	e.Size = r.u64()
	r.bytes(e.Root[:])
}

// reader takes fields off b; after the first short read every further one
// yields zeros and done reports it.
type reader struct {
	b   []byte
	off int
	bad string
}

func (r *reader) fail(what string) {
	if r.bad == "" {
		r.bad = fmt.Sprintf("%s before offset %d", what, r.off)
	}
}

func (r *reader) take(n int) []byte {
	if r.bad != "" || len(r.b)-r.off < n {
		r.fail("field cut short")
		return nil
	}
	r.off += n
	return r.b[r.off-n : r.off]
}

func (r *reader) bytes(dst []byte) { copy(dst, r.take(len(dst))) }

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) string8() string  { return string(r.take(int(r.u8()))) }
func (r *reader) string16() string { return string(r.take(int(r.u16()))) }

func (r *reader) done(what string) error {
	if r.bad == "" && r.off != len(r.b) {
		r.fail(fmt.Sprintf("%d bytes too many", len(r.b)-r.off))
	}
	if r.bad != "" {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, what, r.bad)
	}
	return nil
}
