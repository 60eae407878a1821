package wire

import (
	"math"
	"slices"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// MaxRows caps the answer to a query with a select list, which must fit one
// datagram (§3.9). It also bounds the rows read from one.
const MaxRows = 1000

// Row is the selected fields of one value; those not selected are zero.
type Row struct {
	ID       dht.ValueID
	Type     dht.ValueTypeID
	Owner    *dht.PublicKey // nil for values without one
	OwnerID  dht.InfoHash   // its short id; upstream's writer sends no id but the key
	Seq      uint16
	UserType string
}

// NormalizeSelect returns the fields of a select list as answers list them:
// ascending and without duplicates.
func NormalizeSelect(fields []dht.Field) []dht.Field {
	fields = slices.Clone(fields)
	slices.Sort(fields)
	return slices.Compact(fields)
}

// AppendFields appends the object of "fileds" for up to MaxRows values:
//
//	{"f": [field…], "v": [content, content…]}   row after row
//
// An owner is written as its whole DER key, none as 20 zero bytes (§3.9).
func AppendFields(dst []byte, selected []dht.Field, values []*dht.Value) []byte {
	selected = NormalizeSelect(selected)
	values = values[:min(len(values), MaxRows)]
	dst = msgpack.AppendMapHeader(dst, 2)
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "f"), len(selected))
	for _, f := range selected {
		dst = msgpack.AppendUint(dst, uint64(f))
	}
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "v"), len(selected)*len(values))
	for _, v := range values {
		for _, f := range selected {
			dst = appendCell(dst, f, v)
		}
	}
	return dst
}

func appendCell(dst []byte, f dht.Field, v *dht.Value) []byte {
	switch f {
	case dht.FieldID:
		return msgpack.AppendUint(dst, uint64(v.ID))
	case dht.FieldType:
		return msgpack.AppendUint(dst, uint64(v.Type))
	case dht.FieldOwner:
		if v.Owner == nil {
			return msgpack.AppendBin(dst, make([]byte, len(dht.InfoHash{})))
		}
		return msgpack.AppendBin(dst, v.Owner.DER())
	case dht.FieldSeq:
		return msgpack.AppendUint(dst, uint64(v.Seq))
	}
	return msgpack.AppendStr(dst, v.UserType)
}

// ParseFields reads [Packet.Fields]. An empty field list, or a list of cells
// that is no multiple of it, is malformed (§3.9, §19.2).
func ParseFields(b []byte) (selected []dht.Field, rows []Row, err error) {
	r := msgpack.NewReader(b)
	var cells msgpack.Reader
	for n := r.MapLen(); n > 0; n-- {
		switch string(mapKey(&r)) {
		case "f":
			selected = fieldList(&r)
		case "v":
			cells.Reset(r.Raw())
		default:
			r.Skip()
		}
	}
	if err := r.Err(); err != nil {
		return nil, nil, malformed(err)
	}
	n := cells.ArrayLen()
	switch {
	case cells.Err() != nil:
	case len(selected) == 0:
		cells.Fail("no fields selected")
	case n%len(selected) != 0:
		cells.Fail("incomplete row")
	case n/len(selected) > MaxRows:
		cells.Fail("too many rows")
	default:
		rows = make([]Row, n/len(selected))
	}
	for i := range rows {
		for _, f := range selected {
			rows[i].read(&cells, f)
		}
	}
	if err := cells.Err(); err != nil {
		return nil, nil, malformed(err)
	}
	return selected, rows, nil
}

func fieldList(r *msgpack.Reader) []dht.Field {
	n := r.ArrayLen()
	if n > 8 { // there are five
		r.Fail("too many fields")
		return nil
	}
	fields := make([]dht.Field, 0, n)
	for ; n > 0; n-- {
		f := dht.Field(r.UintMax(0xff))
		if !f.Valid() {
			r.Fail("unknown field")
		}
		fields = append(fields, f)
	}
	return fields
}

// read reads one cell.
func (row *Row) read(r *msgpack.Reader, f dht.Field) {
	switch f {
	case dht.FieldID:
		row.ID = dht.ValueID(r.Uint())
	case dht.FieldType:
		row.Type = dht.ValueTypeID(r.UintMax(math.MaxUint16))
	case dht.FieldOwner:
		row.readOwner(r)
	case dht.FieldSeq:
		row.Seq = uint16(r.UintMax(math.MaxUint16))
	case dht.FieldUserType:
		row.UserType = string(r.Blob())
	}
}

// readOwner takes a short id or, what upstream really sends, a whole key.
func (row *Row) readOwner(r *msgpack.Reader) {
	b := r.Blob()
	if id, ok := dht.InfoHashFrom(b); ok {
		row.OwnerID = id
		return
	}
	key, err := dht.ParsePublicKey(b)
	if err != nil {
		r.Fail("owner is neither id nor public key")
		return
	}
	row.Owner, row.OwnerID = key, key.ID()
}
