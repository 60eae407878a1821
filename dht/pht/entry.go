package pht

import (
	"errors"
	"fmt"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// ErrMalformed marks data that is no index entry: skip it.
var ErrMalformed = errors.New("pht: malformed entry")

// maxPrefix bounds the prefix of an entry read from the network.
const maxPrefix = maxFields * (maxFieldSize + 1)

// Ref is what an index leads to: a value at a place.
type Ref struct {
	Place dht.InfoHash
	ID    dht.ValueID
}

// Entry is a key and what it leads to.
type Entry struct {
	Prefix []byte // full content of the linearised key, padding included
	Ref    Ref
}

// Append appends {"prefix": bin, "value": [bin 20, uint64]}.
func (e Entry) Append(dst []byte) []byte {
	dst = msgpack.AppendBin(msgpack.AppendStr(msgpack.AppendMapHeader(dst, 2), "prefix"), e.Prefix)
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "value"), 2)
	return msgpack.AppendUint(msgpack.AppendBin(dst, e.Ref.Place[:]), uint64(e.Ref.ID))
}

// ParseEntry reads the data of an entry. The result does not alias b.
func ParseEntry(b []byte) (Entry, error) {
	r := msgpack.NewReader(b)
	var e Entry
	var hasPrefix, hasValue bool
	for n := r.MapLen(); n > 0; n-- {
		name := ""
		if r.Kind() == msgpack.Str {
			name = string(r.Str())
		} else {
			r.Skip()
		}
		switch name {
		case "prefix":
			e.Prefix, hasPrefix = append([]byte(nil), r.Blob()...), true
		case "value":
			e.Ref, hasValue = parseRef(&r), true
		default:
			r.Skip()
		}
	}
	if !hasPrefix || !hasValue || len(e.Prefix) > maxPrefix {
		r.Fail("prefix or value missing or too long")
	}
	if err := r.Err(); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}

func parseRef(r *msgpack.Reader) Ref {
	if r.ArrayLen() != 2 {
		r.Fail("pair expected")
		return Ref{}
	}
	place, ok := dht.InfoHashFrom(r.Bin())
	if !ok {
		r.Fail("bin of 20 bytes expected")
	}
	return Ref{Place: place, ID: dht.ValueID(r.Uint())}
}

// userType is that of entries of the index of that name.
func userType(name string) string { return "index.pht." + name }

// canaryType is that of its canaries.
func canaryType(name string) string { return userType(name) + ".canary" }
