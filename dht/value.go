package dht

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"strconv"
)

// MaxValueSize is the storage policy's bound on [Value.Size] (§4.3).
const MaxValueSize = 64 << 10

// ValueID tells values at one place apart. Zero is invalid.
type ValueID uint64

// RandomValueID draws an id that is not zero.
func RandomValueID() ValueID {
	var b [8]byte
	for {
		rand.Read(b[:])
		if id := ValueID(binary.LittleEndian.Uint64(b[:])); id != 0 {
			return id
		}
	}
}

// String is the decimal form, as JSON carries it.
func (id ValueID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ValueTypeID selects lifetime and policies (§7).
type ValueTypeID uint16

// Value is one stored item (§5). Fields of an encrypted value other than ID,
// Cypher, Priority and PushType are empty until somebody decrypts it.
type Value struct {
	ID   ValueID     // 0 is invalid on the wire
	Type ValueTypeID // 0 for encrypted values: their real type is inside

	Owner *PublicKey // nil for unsigned values
	Seq   uint16     // version among values of one owner, id and place; only with Owner
	To    InfoHash   // short id of the recipient, zero for none; only with Owner

	UserType  string // application's own type, such as "text/plain"
	Data      []byte
	Signature []byte // over Body; only with Owner
	Cypher    []byte // not empty for encrypted values

	Priority uint32 // 0 high, 1 normal; for push gateways, not signed
	PushType string // such as "audioCall"; not signed
}

// IsEncrypted reports whether v carries a cypher.
func (v *Value) IsEncrypted() bool { return len(v.Cypher) > 0 }

// IsSigned reports whether v has an owner and a signature. It does not check it.
func (v *Value) IsSigned() bool { return v.Owner != nil && len(v.Signature) > 0 }

// Size is what the storage policy counts: cypher, data, signature, user type
// and push type (§4.3). Quotas should count [Value.Footprint].
func (v *Value) Size() int {
	return len(v.Cypher) + len(v.Data) + len(v.Signature) + len(v.UserType) + len(v.PushType)
}

// valueOverhead approximates a Value's own memory with its slice of storage.
const valueOverhead = 240

// Footprint estimates the memory v holds, owner key and overhead included, for
// quotas that an owner key cannot be smuggled past (§12.5).
func (v *Value) Footprint() int {
	n := v.Size() + valueOverhead
	if v.Owner != nil {
		n += 2 * len(v.Owner.der)
	}
	return n
}

// Equal is equality as storage sees it (§5.4): same id and, for encrypted
// values, same cypher; otherwise same owner, type, data, user type and
// signature. Seq, To, Priority and PushType do not count.
func (v *Value) Equal(o *Value) bool {
	if v.ID != o.ID {
		return false
	}
	return v.SameContent(o)
}

// SameContent is Equal without regard to the id.
func (v *Value) SameContent(o *Value) bool {
	if v.IsEncrypted() || o.IsEncrypted() {
		return bytes.Equal(v.Cypher, o.Cypher)
	}
	return v.Owner.Equal(o.Owner) && v.Type == o.Type && v.UserType == o.UserType &&
		bytes.Equal(v.Data, o.Data) && bytes.Equal(v.Signature, o.Signature)
}

// Clone copies v and its byte slices; the immutable owner key is shared.
func (v *Value) Clone() *Value {
	c := *v
	c.Data = bytes.Clone(v.Data)
	c.Signature = bytes.Clone(v.Signature)
	c.Cypher = bytes.Clone(v.Cypher)
	return &c
}

// Verify checks the signature over the canonical body (§5.3): nil, ErrUnsigned
// or ErrBadSignature. An RSA operation: not for the packet loop (§19.3).
func (v *Value) Verify() error {
	if !v.IsSigned() {
		return ErrUnsigned
	}
	return v.Owner.Verify(v.AppendBody(nil), v.Signature)
}
