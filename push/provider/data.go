package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrMalformed is wrapped by the errors of ParseData.
var ErrMalformed = errors.New("provider: malformed data")

// Limits of Data. Every provider caps a whole body at 4096 bytes.
const (
	MaxData    = 4096 // bytes of its JSON
	MaxMembers = 64
)

// Data is the custom part of a message, a JSON object. Members are kept sorted by name, each value in the
// sender's own bytes, so that numbers keep their digits and equal data gives equal output.
type Data []Member

// Member is one name and its value, compact JSON.
type Member struct {
	Name  string
	Value json.RawMessage
}

// ParseData reads a JSON object. A name given twice takes the last value.
func ParseData(raw []byte) (Data, error) {
	if len(raw) > MaxData {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxData)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	if len(object) > MaxMembers {
		return nil, fmt.Errorf("%w: more than %d members", ErrMalformed, MaxMembers)
	}
	d := make(Data, 0, len(object))
	for name, value := range object {
		var b bytes.Buffer
		if err := json.Compact(&b, value); err != nil {
			return nil, fmt.Errorf("%w: member %q", ErrMalformed, name)
		}
		d = append(d, Member{name, b.Bytes()})
	}
	slices.SortFunc(d, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// AppendJSON appends d as a compact JSON object.
func (d Data) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	dst = d.AppendMembers(dst)
	return append(dst, '}')
}

// AppendMembers appends d's members without the braces around them.
func (d Data) AppendMembers(dst []byte) []byte {
	for i, m := range d {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, m.Name)
		dst = append(dst, ':')
		dst = append(dst, m.Value...)
	}
	return dst
}

// Size is the number of bytes of d's JSON, give or take escapes in names.
func (d Data) Size() int {
	n := 2
	for _, m := range d {
		n += len(m.Name) + len(m.Value) + 4
	}
	return n
}

// Get returns the text of a member: a JSON string's content, any other value's JSON. ok is false if absent.
func (d Data) Get(name string) (text string, ok bool) {
	i, ok := d.find(name)
	if !ok {
		return "", false
	}
	return d[i].Text(), true
}

// With returns a copy of d in which name has the string value text.
func (d Data) With(name, text string) Data {
	i, ok := d.find(name)
	out := slices.Clone(d)
	m := Member{name, AppendString(nil, text)}
	if ok {
		out[i] = m
		return out
	}
	return slices.Insert(out, i, m)
}

// Without returns a copy of d that has none of names.
func (d Data) Without(names ...string) Data {
	return slices.DeleteFunc(slices.Clone(d), func(m Member) bool { return slices.Contains(names, m.Name) })
}

func (d Data) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
}

// Text returns a JSON string's content, or any other value's JSON.
func (m Member) Text() string {
	if len(m.Value) == 0 || m.Value[0] != '"' {
		return string(m.Value)
	}
	inner := m.Value[1 : len(m.Value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if json.Unmarshal(m.Value, &s) != nil {
		return string(m.Value) // ParseData let only valid JSON in
	}
	return s
}

// AppendString appends s as a JSON string. Unlike encoding/json it leaves <, > and & alone: session ids hold
// them, and upstream's clients compare bytes.
func AppendString(dst []byte, s string) []byte {
	if plain(s) {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil { // a string always encodes
		return append(dst, `""`...)
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// AppendInt appends n as a JSON number.
func AppendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
