package dht_test

import (
	"errors"
	"testing"

	"github.com/jirani/jirani/dht"
)

func TestQueryMatch(t *testing.T) {
	t.Parallel()
	v, _, err := dht.ParseValue(byName(t)["value/signed"])
	if err != nil {
		t.Fatal(err)
	}
	plain := &dht.Value{ID: 7, Type: 3}
	tests := []struct {
		name          string
		where         []dht.FieldValue
		signed, plain bool
	}{
		{"nothing", nil, true, true},
		{"id", []dht.FieldValue{dht.WhereID(7)}, true, true},
		{"other id", []dht.FieldValue{dht.WhereID(8)}, false, false},
		{"type", []dht.FieldValue{dht.WhereType(3)}, false, true},
		{"owner", []dht.FieldValue{dht.WhereOwner(v.Owner.ID())}, true, false},
		{"no owner", []dht.FieldValue{dht.WhereOwner(dht.InfoHash{})}, false, true},
		{"user type", []dht.FieldValue{dht.WhereUserType("text/plain")}, true, false},
		{"all must match", []dht.FieldValue{dht.WhereID(7), dht.WhereType(0)}, true, false},
		{"seq", []dht.FieldValue{{Field: dht.FieldSeq, Int: 3}}, true, false},
		{"unknown field", []dht.FieldValue{{Field: 9}}, false, false},
	}
	for _, tt := range tests {
		q := dht.Query{Where: tt.where}
		if q.Match(v) != tt.signed || q.Match(plain) != tt.plain {
			t.Errorf("%s: signed %v, plain %v", tt.name, q.Match(v), q.Match(plain))
		}
	}
}

// The rule of §10.4.
func TestQueryCoveredBy(t *testing.T) {
	t.Parallel()
	one, three := dht.WhereID(1), dht.WhereType(3)
	tests := []struct {
		name string
		a, b dht.Query
		want bool
	}{
		{"all by all", dht.Query{}, dht.Query{}, true},
		{"filtered by all", dht.Query{Where: []dht.FieldValue{one}}, dht.Query{}, true},
		{"all by filtered", dht.Query{}, dht.Query{Where: []dht.FieldValue{one}}, false},
		{"more filters", dht.Query{Where: []dht.FieldValue{three, one}}, dht.Query{Where: []dht.FieldValue{one}}, true},
		{"other filter", dht.Query{Where: []dht.FieldValue{dht.WhereID(2)}}, dht.Query{Where: []dht.FieldValue{one}}, false},
		{"fewer fields", dht.Query{Select: []dht.Field{1}}, dht.Query{Select: []dht.Field{4, 1}}, true},
		{"more fields", dht.Query{Select: []dht.Field{1, 2}}, dht.Query{Select: []dht.Field{1}}, false},
		{"fields by whole values", dht.Query{Select: []dht.Field{1}}, dht.Query{}, false},
		{"whole values by fields", dht.Query{}, dht.Query{Select: []dht.Field{1}}, false},
	}
	for _, tt := range tests {
		if got := tt.a.CoveredBy(tt.b); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	t.Parallel()
	where := func(f, v []byte) []byte { return obj(str("s"), arr(), str("w"), arr(obj(str("f"), f, str("v"), v))) }
	many := make([][]byte, 40)
	for i := range many {
		many[i] = num(1)
	}
	for name, b := range map[string][]byte{
		"no w":           obj(str("s"), arr()),
		"no s":           obj(str("w"), arr()),
		"seq":            where(num(4), num(1)),
		"unknown field":  where(num(6), num(1)),
		"id as str":      where(num(1), str("x")),
		"owner of 19":    where(num(3), bin(make([]byte, 19))),
		"without v":      obj(str("s"), arr(), str("w"), arr(obj(str("f"), num(1)))),
		"select field 0": obj(str("s"), arr(num(0)), str("w"), arr()),
		"too many":       obj(str("s"), arr(many...), str("w"), arr()),
		"array":          arr(),
		"empty":          nil,
	} {
		if _, err := dht.ParseQuery(b); !errors.Is(err, dht.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A query parsed into again keeps nothing; a clone keeps all.
func TestQueryReuse(t *testing.T) {
	t.Parallel()
	var q dht.Query
	full := dht.Query{Select: []dht.Field{1, 4}, Where: []dht.FieldValue{dht.WhereUserType("x")}}
	if err := q.Parse(full.Append(nil)); err != nil || !q.Equal(full) {
		t.Fatalf("%+v, %v", q, err)
	}
	kept := q.Clone()
	if err := q.Parse(dht.Query{Select: []dht.Field{2}}.Append(nil)); err != nil || len(q.Where) != 0 || len(q.Select) != 1 {
		t.Errorf("%+v, %v", q, err)
	}
	if !kept.Equal(full) {
		t.Errorf("clone changed: %+v", kept)
	}
}
