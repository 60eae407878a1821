package dht

import "github.com/jirani/jirani/internal/msgpack"

// b2i counts optional map entries.
func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Append appends the canonical serialised value (§5.1).
func (v *Value) Append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 2+b2i(v.Priority != 0)+b2i(v.PushType != ""))
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "id"), uint64(v.ID))
	dst = v.AppendDat(msgpack.AppendStr(dst, "dat"))
	if v.Priority != 0 {
		dst = msgpack.AppendUint(msgpack.AppendStr(dst, "p"), uint64(v.Priority))
	}
	if v.PushType != "" {
		dst = msgpack.AppendStr(msgpack.AppendStr(dst, "pt"), v.PushType)
	}
	return dst
}

// AppendDat appends the "dat" object alone: the cypher, or body and signature.
// The latter is the plaintext of an encrypted value (§6.3).
func (v *Value) AppendDat(dst []byte) []byte {
	if v.IsEncrypted() {
		return msgpack.AppendBin(dst, v.Cypher)
	}
	dst = msgpack.AppendMapHeader(dst, 1+b2i(v.IsSigned()))
	dst = v.AppendBody(msgpack.AppendStr(dst, "body"))
	if v.IsSigned() {
		dst = msgpack.AppendBin(msgpack.AppendStr(dst, "sig"), v.Signature)
	}
	return dst
}

// AppendBody appends the body alone, the bytes that are signed (§5.3).
func (v *Value) AppendBody(dst []byte) []byte {
	owned, directed := v.Owner != nil, v.Owner != nil && !v.To.IsZero()
	dst = msgpack.AppendMapHeader(dst, 2+2*b2i(owned)+b2i(directed)+b2i(v.UserType != ""))
	if owned {
		dst = msgpack.AppendUint(msgpack.AppendStr(dst, "seq"), uint64(v.Seq))
		dst = msgpack.AppendBin(msgpack.AppendStr(dst, "owner"), v.Owner.der)
	}
	if directed {
		dst = msgpack.AppendBin(msgpack.AppendStr(dst, "to"), v.To[:])
	}
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "type"), uint64(v.Type))
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "data"), v.Data)
	if v.UserType != "" {
		dst = msgpack.AppendStr(msgpack.AppendStr(dst, "utype"), v.UserType)
	}
	return dst
}

// headLen is the length of a msgpack header for n bytes or a number n.
func headLen(n int) int {
	switch {
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	}
	return 5
}

// maxFixedLen bounds all of a serialised value but its variable fields: map
// headers, key names, id, seq, to, type and priority.
const maxFixedLen = 96

// EncodedBound is an upper bound of the length [Value.Append] adds, within
// 100 bytes of it, for sizing buffers.
func (v *Value) EncodedBound() int {
	n := maxFixedLen + v.Size()
	for _, l := range [...]int{len(v.Cypher), len(v.Data), len(v.Signature), len(v.UserType), len(v.PushType)} {
		n += headLen(l)
	}
	if v.Owner != nil {
		n += headLen(len(v.Owner.der)) + len(v.Owner.der)
	}
	return n
}
