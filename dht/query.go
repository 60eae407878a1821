package dht

import (
	"slices"

	"github.com/jirani/jirani/internal/msgpack"
)

// Field is a value's property that queries name by number (§3.9).
type Field uint8

// The fields. FieldSeq can be selected but not filtered on: upstream cannot
// encode such a filter and drops messages that have one.
const (
	FieldID       Field = 1
	FieldType     Field = 2
	FieldOwner    Field = 3 // short key id in filters, whole DER key in answers
	FieldSeq      Field = 4
	FieldUserType Field = 5
)

// Limits on a query read from the wire; there are five fields.
const (
	maxSelect = 32
	maxWhere  = 32
)

// Valid reports whether f is one of the five fields.
func (f Field) Valid() bool { return f >= FieldID && f <= FieldUserType }

// String is the name upstream's command line uses.
func (f Field) String() string {
	if !f.Valid() {
		return "invalid"
	}
	return [...]string{"id", "value_type", "owner_pk", "seq", "user_type"}[f-1]
}

// FieldValue is a condition: that field equals that content. Which of the
// contents counts depends on Field.
type FieldValue struct {
	Field Field
	Int   uint64   // id, type, seq
	Hash  InfoHash // owner's short key id, zero for unsigned values
	Text  string   // user type
}

// WhereID, WhereType, WhereOwner and WhereUserType build conditions.
func WhereID(id ValueID) FieldValue { return FieldValue{Field: FieldID, Int: uint64(id)} }

// WhereType asks for values of a type.
func WhereType(t ValueTypeID) FieldValue { return FieldValue{Field: FieldType, Int: uint64(t)} }

// WhereOwner asks for values signed by the key of that short id.
func WhereOwner(id InfoHash) FieldValue { return FieldValue{Field: FieldOwner, Hash: id} }

// WhereUserType asks for values of an application's own type.
func WhereUserType(s string) FieldValue { return FieldValue{Field: FieldUserType, Text: s} }

// Match reports whether v satisfies the condition.
func (f FieldValue) Match(v *Value) bool {
	switch f.Field {
	case FieldID:
		return uint64(v.ID) == f.Int
	case FieldType:
		return uint64(v.Type) == f.Int
	case FieldOwner:
		return ownerID(v) == f.Hash
	case FieldSeq:
		return uint64(v.Seq) == f.Int
	case FieldUserType:
		return v.UserType == f.Text
	}
	return false
}

// ownerID is the owner's short id, zero for unsigned values.
func ownerID(v *Value) InfoHash {
	if v.Owner == nil {
		return InfoHash{}
	}
	return v.Owner.ID()
}

// Query narrows a get or listen (§3.9): Select names the fields wanted, none
// meaning whole values; all of Where must match.
type Query struct {
	Select []Field
	Where  []FieldValue
}

// IsZero reports whether q asks for everything. Such a query is not sent.
func (q Query) IsZero() bool { return len(q.Select) == 0 && len(q.Where) == 0 }

// Match reports whether v passes every condition.
func (q Query) Match(v *Value) bool {
	for i := range q.Where {
		if !q.Where[i].Match(v) {
			return false
		}
	}
	return true
}

// CoveredBy reports whether an answer to o holds all that q asks for (§10.4):
// every condition of o is one of q, and either both select whole values or o
// selects every field q selects.
func (q Query) CoveredBy(o Query) bool {
	for _, w := range o.Where {
		if !slices.Contains(q.Where, w) {
			return false
		}
	}
	if len(q.Select) == 0 || len(o.Select) == 0 {
		return len(q.Select) == len(o.Select)
	}
	for _, f := range q.Select {
		if !slices.Contains(o.Select, f) {
			return false
		}
	}
	return true
}

// Equal reports whether both cover each other.
func (q Query) Equal(o Query) bool { return q.CoveredBy(o) && o.CoveredBy(q) }

// Append appends {"s": [field…], "w": [{"f": field, "v": content}…]}.
// A condition on FieldSeq has no encoding and MUST NOT be sent.
func (q Query) Append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 2)
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "s"), len(q.Select))
	for _, f := range q.Select {
		dst = msgpack.AppendUint(dst, uint64(f))
	}
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "w"), len(q.Where))
	for i := range q.Where {
		dst = q.Where[i].append(dst)
	}
	return dst
}

func (f *FieldValue) append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 2)
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "f"), uint64(f.Field))
	dst = msgpack.AppendStr(dst, "v")
	switch f.Field {
	case FieldOwner:
		return msgpack.AppendBin(dst, f.Hash[:])
	case FieldUserType:
		return msgpack.AppendBinText(dst, f.Text)
	}
	return msgpack.AppendUint(dst, f.Int)
}

// ParseQuery reads a query. Both "s" and "w" are required, unknown fields and
// a condition on FieldSeq are errors: upstream drops such messages (§3.9).
func ParseQuery(b []byte) (Query, error) {
	var q Query
	if err := q.Parse(b); err != nil {
		return Query{}, err
	}
	return q, nil
}

// Parse is ParseQuery into q, reusing the room of its slices. After an error q
// is of no use but to be parsed into again.
func (q *Query) Parse(b []byte) error {
	r := msgpack.NewReader(b)
	q.Reset()
	var hasS, hasW bool
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(&r)) {
		case "s":
			q.Select, hasS = parseSelect(&r, q.Select[:0]), true
		case "w":
			q.Where, hasW = parseWhere(&r, q.Where[:0]), true
		default:
			r.Skip()
		}
	}
	if !hasS || !hasW {
		r.Fail("s or w missing")
	}
	if err := r.Err(); err != nil {
		return wrapQuery(err)
	}
	return nil
}

// Reset makes q ask for everything and keeps the room of its slices.
func (q *Query) Reset() { q.Select, q.Where = q.Select[:0], q.Where[:0] }

// Clone copies q, for queries that outlive the packet they came in.
func (q Query) Clone() Query {
	return Query{Select: slices.Clone(q.Select), Where: slices.Clone(q.Where)}
}

func parseSelect(r *msgpack.Reader, fields []Field) []Field {
	n := r.ArrayLen()
	if n > maxSelect {
		r.Fail("too many fields selected")
		return fields
	}
	for ; n > 0; n-- {
		fields = append(fields, parseField(r))
	}
	return fields
}

func parseField(r *msgpack.Reader) Field {
	f := Field(r.UintMax(0xff))
	if !f.Valid() {
		r.Fail("unknown field")
	}
	return f
}

func parseWhere(r *msgpack.Reader, where []FieldValue) []FieldValue {
	n := r.ArrayLen()
	if n > maxWhere {
		r.Fail("too many conditions")
		return where
	}
	for ; n > 0 && r.Err() == nil; n-- {
		where = append(where, parseFieldValue(r))
	}
	return where
}

func parseFieldValue(r *msgpack.Reader) (f FieldValue) {
	var content msgpack.Reader
	var hasF, hasV bool
	for n := r.MapLen(); n > 0; n-- {
		switch string(key(r)) {
		case "f":
			f.Field, hasF = parseField(r), true
		case "v":
			content.Reset(r.Raw())
			hasV = true
		default:
			r.Skip()
		}
	}
	if !hasF || !hasV {
		r.Fail("condition without f or v")
		return FieldValue{}
	}
	switch f.Field {
	case FieldID, FieldType:
		f.Int = content.Uint()
	case FieldOwner:
		f.Hash = hash(&content)
	case FieldUserType:
		f.Text = string(content.Blob())
	default:
		r.Fail("condition on this field has no encoding")
	}
	if content.Err() != nil {
		r.Fail("condition of the wrong type")
	}
	return f
}
