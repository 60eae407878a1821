package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind is the first byte of an entry.
type Kind uint8

// The kinds. KindBlinded is kept for registrations under a blinded name (VRF);
// no entry of that kind is written or accepted yet.
const (
	KindRegister  Kind = 1
	KindMapRoot   Kind = 2
	KindTombstone Kind = 3
	KindKey       Kind = 4
	KindPolicy    Kind = 5
	KindImport    Kind = 6
	KindBlinded   Kind = 7
)

var kindNames = map[Kind]string{
	KindRegister: "register", KindMapRoot: "map_root", KindTombstone: "tombstone",
	KindKey: "key", KindPolicy: "policy", KindImport: "import", KindBlinded: "blinded",
}

// String returns the word used in JSON and on the command line.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MaxEntry bounds an encoded entry in bytes. The largest kind, a Register with
// name and key of 255 bytes, is 625.
const MaxEntry = 1024

// Entry is one of *Register, *MapRoot, *Tombstone, *Key, *Policy, *Import.
type Entry interface {
	Kind() Kind
	// Time is when the entry was made, to the millisecond; it never runs
	// backwards along the log.
	Time() time.Time
	appendBody(dst []byte) []byte
	parseBody(r *reader)
}

// Millis is a time in milliseconds since 1970, as entries carry it.
type Millis uint64

// Time converts to the standard type, in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// Register binds a name to an address.
//
//	u8 1, u64 ms, u8 flags, u8 n, name[n], u8 k, key[k], addr[20], [owner[20]],
//	spkiHash[32], signatureHash[32]
//
// Flags: bits 0–1 the KeyForm, bit 2 set when an owner follows; others zero. k
// is 0 when the lookup key equals the name.
type Register struct {
	Millis        Millis
	Name          string
	Key           string // "" when equal to Name
	Address       Address
	Owner         *Address
	Form          KeyForm
	SPKIHash      [32]byte
	SignatureHash [32]byte
}

// LookupKey returns the form of the name that is unique.
func (e *Register) LookupKey() string {
	if e.Key != "" {
		return e.Key
	}
	return e.Name
}

// MapRoot closes every batch: Root is the root of the map over the entries
// [0, Size), which holds Count keys. Size is also the entry's own index.
//
//	u8 2, u64 ms, u64 size, u64 count, root[32]
type MapRoot struct {
	Millis Millis
	Size   uint64
	Count  uint64
	Root   Hash
}

// Tombstone burns a name: it answers "not found" for ever and nobody can
// register it. A registration of it stays in the log and the address stays
// taken.
//
//	u8 3, u64 ms, u8 k, key[k], u8 n, reason[n]
type Tombstone struct {
	Millis Millis
	Key    string
	Reason string
}

// Key hands the log over to a new signing key. Old and New are Ed25519
// signatures over RotationMessage; from the checkpoint that covers this entry
// on, the new key signs. Entry 0 of every log is a Key: its first, signed by
// itself.
//
//	u8 4, u64 ms, u16 n, vkey[n], old[64], new[64]
type Key struct {
	Millis Millis
	VKey   string
	Old    [64]byte
	New    [64]byte
}

// Policy records the SHA-256 of the rules text in force from here on.
//
//	u8 5, u64 ms, hash[32]
type Policy struct {
	Millis Millis
	Hash   [32]byte
}

// Import says that registrations from here on were taken over, in order, from
// another log as of the given checkpoint; where that ends the log does not say.
//
//	u8 6, u64 ms, u16 n, origin[n], u64 size, root[32]
type Import struct {
	Millis Millis
	Origin string
	Size   uint64
	Root   Hash
}

// Hash is a SHA-256 value of log or map.
type Hash = tlog.Hash

// Kind implements Entry.
func (*Register) Kind() Kind  { return KindRegister }
func (*MapRoot) Kind() Kind   { return KindMapRoot }   // Kind implements Entry.
func (*Tombstone) Kind() Kind { return KindTombstone } // Kind implements Entry.
func (*Key) Kind() Kind       { return KindKey }       // Kind implements Entry.
func (*Policy) Kind() Kind    { return KindPolicy }    // Kind implements Entry.
func (*Import) Kind() Kind    { return KindImport }    // Kind implements Entry.

// Time implements Entry.
func (e *Register) Time() time.Time  { return e.Millis.Time() }
func (e *MapRoot) Time() time.Time   { return e.Millis.Time() } // Time implements Entry.
func (e *Tombstone) Time() time.Time { return e.Millis.Time() } // Time implements Entry.
func (e *Key) Time() time.Time       { return e.Millis.Time() } // Time implements Entry.
func (e *Policy) Time() time.Time    { return e.Millis.Time() } // Time implements Entry.
func (e *Import) Time() time.Time    { return e.Millis.Time() } // Time implements Entry.

// AppendEntry appends the one encoding of e.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = append(dst, byte(e.Kind()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time().UnixMilli()))
	return e.appendBody(dst)
}

// ParseEntry decodes a whole entry. Whatever it accepts, AppendEntry encodes to
// the same bytes. The result does not alias b.
func ParseEntry(b []byte) (Entry, error) {
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("%w: entry of %d bytes", ErrMalformed, len(b))
	}
	r := &reader{b: b}
	kind, ms := Kind(r.u8()), Millis(r.u64())
	if ms > maxMillis {
		r.fail("time")
	}
	e, ok := newEntry(kind, ms)
	if !ok {
		return nil, fmt.Errorf("%w: entry kind %d", ErrMalformed, kind)
	}
	e.parseBody(r)
	if err := r.done(kind.String()); err != nil {
		return nil, err
	}
	return e, nil
}

// maxMillis keeps times within what time.UnixMilli and JSON carry: year 9999.
const maxMillis = 253402300799999

func newEntry(kind Kind, ms Millis) (Entry, bool) {
	switch kind {
	case KindRegister:
		return &Register{Millis: ms}, true
	case KindMapRoot:
		return &MapRoot{Millis: ms}, true
	case KindTombstone:
		return &Tombstone{Millis: ms}, true
	case KindKey:
		return &Key{Millis: ms}, true
	case KindPolicy:
		return &Policy{Millis: ms}, true
	case KindImport:
		return &Import{Millis: ms}, true
	}
	return nil, false
}

// LeafHash returns the RFC 6962 leaf hash of an encoded entry.
func LeafHash(entry []byte) Hash { return tlog.RecordHash(entry) }

// MapKey is a position in the map.
type MapKey [sha256.Size]byte

// NameKey returns the map key of a name's lookup form:
// SHA-256("jns/v1/name\0" ‖ key).
func NameKey(key string) MapKey {
	b := append(make([]byte, 0, 12+MaxName), "jns/v1/name\x00"...)
	return sha256.Sum256(append(b, key...))
}

// AddressKey returns the map key of an address: SHA-256("jns/v1/addr\0" ‖ addr).
func AddressKey(a Address) MapKey {
	b := append(make([]byte, 0, 12+AddressSize), "jns/v1/addr\x00"...)
	return sha256.Sum256(append(b, a[:]...))
}

// MapKeys appends the map keys e speaks for: name and address of a Register,
// the name of a Tombstone, none for others.
func MapKeys(dst []MapKey, e Entry) []MapKey {
	switch e := e.(type) {
	case *Register:
		return append(dst, NameKey(e.LookupKey()), AddressKey(e.Address))
	case *Tombstone:
		return append(dst, NameKey(e.Key))
	}
	return dst
}
