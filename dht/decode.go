package dht

import (
	"fmt"
	"math"

	"github.com/jirani/jirani/internal/msgpack"
)

// maxTextLen bounds utype and pt, which are short names in practice.
const maxTextLen = 1 << 16

// ParseValue reads one serialised value (§5.2) and returns it with the bytes
// after it. The value does not alias b: it owns one copy of its own bytes.
// Unknown keys are skipped, of equal keys the last wins. An id of zero is
// parsed; whether to refuse it is the receiver's step (§3.2).
func ParseValue(b []byte) (*Value, []byte, error) {
	r := msgpack.NewReader(b)
	raw := r.Raw()
	if err := r.Err(); err != nil {
		return nil, b, wrapValue(err)
	}
	v := new(Value)
	if err := v.parse(raw); err != nil {
		return nil, b, err
	}
	v.own()
	return v, r.Rest(), nil
}

// own moves the byte fields from the input into one allocation of just their
// size, so that unknown keys of the input are not kept alive uncounted.
func (v *Value) own() {
	buf := make([]byte, 0, len(v.Data)+len(v.Signature)+len(v.Cypher))
	for _, f := range [...]*[]byte{&v.Data, &v.Signature, &v.Cypher} {
		if len(*f) == 0 {
			*f = nil
			continue
		}
		at := len(buf)
		buf = append(buf, *f...)
		*f = buf[at:len(buf):len(buf)]
	}
}

// ParseDat reads the "dat" object into v: the plaintext of an encrypted value
// (§6.3). v must be fresh. It aliases b. A cypher inside is refused.
func (v *Value) ParseDat(b []byte) error {
	r := msgpack.NewReader(b)
	if r.Kind() != msgpack.Map {
		return fmt.Errorf("dht: value: dat is no map: %w", ErrMalformed)
	}
	v.parseDat(&r)
	return wrapValue(r.Err())
}

func wrapValue(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dht: value: %w: %w", ErrMalformed, err)
}

func wrapQuery(err error) error { return fmt.Errorf("dht: query: %w: %w", ErrMalformed, err) }

// parse reads the outer map; v aliases raw afterwards.
func (v *Value) parse(raw []byte) error {
	r := msgpack.NewReader(raw)
	var dat msgpack.Reader
	var hasID, hasDat bool
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(&r)) {
		case "id":
			v.ID, hasID = ValueID(r.Uint()), true
		case "dat":
			dat.Reset(r.Raw())
			hasDat = true
		case "p":
			v.Priority = uint32(r.UintMax(math.MaxUint32))
		case "pt":
			v.PushType = text(&r)
		default:
			r.Skip()
		}
	}
	if !hasID || !hasDat {
		r.Fail("id or dat missing")
	}
	if err := r.Err(); err != nil {
		return wrapValue(err)
	}
	v.parseDat(&dat)
	return wrapValue(dat.Err())
}

// parseDat reads a cypher, or body and signature. With an owner the signature
// is required; without one it is dropped.
func (v *Value) parseDat(r *msgpack.Reader) {
	if r.Kind() != msgpack.Map {
		v.Cypher = r.Blob()
		return
	}
	var body msgpack.Reader
	var sig []byte
	var hasBody, hasSig bool
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(r)) {
		case "body":
			body.Reset(r.Raw())
			hasBody = true
		case "sig":
			sig, hasSig = r.Blob(), true
		default:
			r.Skip()
		}
	}
	if !hasBody {
		r.Fail("body missing")
	}
	if r.Err() != nil {
		return
	}
	if v.parseBody(&body); body.Err() != nil {
		*r = body
		return
	}
	switch {
	case v.Owner == nil:
		v.Seq, v.To = 0, InfoHash{}
	case !hasSig || len(sig) == 0: // empty: nobody could read what we would re-send
		r.Fail("owner without sig")
	default:
		v.Signature = sig
	}
}

// parseBody reads the signed part.
func (v *Value) parseBody(r *msgpack.Reader) {
	var owner []byte
	var hasOwner, hasSeq, hasType, hasData bool
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(r)) {
		case "seq":
			v.Seq, hasSeq = uint16(r.UintMax(math.MaxUint16)), true
		case "owner":
			owner, hasOwner = r.Blob(), true
		case "to":
			v.To = hash(r)
		case "type":
			v.Type, hasType = ValueTypeID(r.UintMax(math.MaxUint16)), true
		case "data":
			v.Data, hasData = r.Blob(), true
		case "utype":
			v.UserType = text(r)
		default:
			r.Skip()
		}
	}
	switch {
	case r.Err() != nil:
	case !hasType || !hasData:
		r.Fail("type or data missing")
	case hasOwner && !hasSeq:
		r.Fail("owner without seq")
	case hasOwner:
		var err error
		if v.Owner, err = ParsePublicKey(owner); err != nil {
			r.Fail("owner is no public key")
		}
	}
}

// key reads a map key; keys that are no str match nothing.
func key(r *msgpack.Reader) []byte {
	if r.Kind() == msgpack.Str {
		return r.Str()
	}
	r.Skip()
	return nil
}

// text reads a short str.
func text(r *msgpack.Reader) string {
	b := r.Str()
	if len(b) > maxTextLen {
		r.Fail("text too long")
		return ""
	}
	return string(b)
}

// hash reads a bin of exactly 20 bytes.
func hash(r *msgpack.Reader) InfoHash {
	h, ok := InfoHashFrom(r.Bin())
	if !ok {
		r.Fail("bin of 20 bytes expected")
	}
	return h
}
