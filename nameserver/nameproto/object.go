package nameproto

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// parseFlatObject reads the JSON object in b and stores the string members
// named in fields into out, which has the same length. Members with other
// names are skipped, whatever their type. A named member that appears twice or
// is no string is an error, and so is anything after the object: two readers
// of one body must not see two registrations.
func parseFlatObject(b []byte, fields []string, out []string) error {
	if ok := parsePlainObject(b, fields, out); ok {
		return nil
	}
	clear(out)
	return parseAnyObject(b, fields, out)
}

// parsePlainObject is the quick way for what clients really send: only string
// members, no white space, no escapes, each named once. It reports false on
// anything else without judging it.
func parsePlainObject(b []byte, fields []string, out []string) bool {
	var seen uint64
	if len(b) < 2 || b[0] != '{' {
		return false
	}
	for b = b[1:]; ; b = b[1:] {
		name, rest, ok := cutPlainString(b)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return false
		}
		value, rest, ok := cutPlainString(rest[1:])
		if !ok || len(rest) == 0 {
			return false
		}
		i := fieldIndex(fields, name)
		if i < 0 || seen&(1<<i) != 0 {
			return false
		}
		seen |= 1 << i
		out[i] = string(value)
		b = rest
		if b[0] == '}' {
			return len(b) == 1
		}
		if b[0] != ',' {
			return false
		}
	}
}

// cutPlainString cuts a JSON string of printable ASCII without escapes from
// the front of b.
func cutPlainString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], b[i+1:], true
		case c < 0x20 || c >= 0x7f || c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

func fieldIndex(fields []string, name []byte) int {
	for i, f := range fields {
		if string(name) == f {
			return i
		}
	}
	return -1
}

// parseAnyObject is the general way, through encoding/json's tokens (its
// struct decoding would match names in any letter case and let the last of two
// members win).
func parseAnyObject(b []byte, fields []string, out []string) error {
	if !json.Valid(b) {
		return fmt.Errorf("%w: body is not JSON", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%w: body is not a JSON object", ErrMalformed)
	}
	var seen uint64
	for d.More() {
		if err := parseMember(d, fields, out, &seen); err != nil {
			return err
		}
	}
	return nil
}

func parseMember(d *json.Decoder, fields []string, out []string, seen *uint64) error {
	t, err := d.Token()
	name, ok := t.(string)
	if err != nil || !ok {
		return fmt.Errorf("%w: body is not a JSON object", ErrMalformed)
	}
	var value json.RawMessage
	if err := d.Decode(&value); err != nil {
		return fmt.Errorf("%w: %s: not JSON", ErrMalformed, name)
	}
	i := fieldIndex(fields, []byte(name))
	if i < 0 {
		return nil
	}
	if *seen&(1<<i) != 0 {
		return fmt.Errorf("%w: %s: appears twice", ErrMalformed, fields[i])
	}
	*seen |= 1 << i
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &out[i]) != nil {
		return fmt.Errorf("%w: %s: not a string", ErrMalformed, fields[i])
	}
	return nil
}
