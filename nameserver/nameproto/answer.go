package nameproto

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// An Entry is the answer of GET /name/<name>: a registered name with what
// proves it.
type Entry struct {
	Name      string  // exactly the bytes the signature covers
	Addr      Address // account id
	PublicKey []byte  // as registered
	Signature []byte  // as registered
}

// AppendEntry appends the answer of GET /name/<name> for e. All four members
// are always written.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, e.Name)
	dst = append(dst, `,"addr":"`...)
	dst = hex.AppendEncode(dst, e.Addr[:])
	dst = append(dst, `","publickey":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, e.PublicKey)
	dst = append(dst, `","signature":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, e.Signature)
	return append(dst, `"}`...)
}

// maxEntry is the most bytes of a lookup answer that ParseEntry reads; with a
// proof of the ledger riding along a real one has 6 kB.
const maxEntry = 64 << 10

// ParseEntry decodes the answer of GET /name/<name>. Members it does not know
// (a proof, say) are skipped. It does not verify; see [Entry.Verify].
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) > maxEntry {
		return e, fmt.Errorf("%w: answer over %d bytes", ErrMalformed, maxEntry)
	}
	var f [4]string
	if err := parseFlatObject(b, entryFields, f[:]); err != nil {
		return e, err
	}
	r, err := newRegistration(f[1], "", f[3], f[2])
	if err != nil {
		return e, err
	}
	return Entry{Name: f[0], Addr: r.Addr, PublicKey: r.PublicKey, Signature: r.Signature}, nil
}

var entryFields = []string{"name", "addr", "publickey", "signature"}

// AppendName appends the answer of GET /addr/<addr>.
func AppendName(dst []byte, name string) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, name)
	return append(dst, '}')
}

// ParseName decodes the answer of GET /addr/<addr>.
func ParseName(b []byte) (string, error) {
	var f [1]string
	if len(b) > maxEntry {
		return "", fmt.Errorf("%w: answer over %d bytes", ErrMalformed, maxEntry)
	}
	if err := parseFlatObject(b, []string{"name"}, f[:]); err != nil {
		return "", err
	}
	if f[0] == "" {
		return "", fmt.Errorf("%w: name: empty or absent", ErrMalformed)
	}
	return f[0], nil
}

// AppendSuccess appends the answer to a registration that holds.
func AppendSuccess(dst []byte) []byte { return append(dst, `{"success":true}`...) }

// AppendFailure appends the answer to a registration that was refused for the
// given reason, which clients ignore and people read.
func AppendFailure(dst []byte, reason string) []byte {
	dst = append(dst, `{"success":false,"error":`...)
	dst = appendString(dst, reason)
	return append(dst, '}')
}

// AppendError appends the body of a lookup that has no answer.
func AppendError(dst []byte, reason string) []byte {
	dst = append(dst, `{"error":`...)
	dst = appendString(dst, reason)
	return append(dst, '}')
}

// appendString appends s as a JSON string. Bytes that are not UTF-8 cannot
// appear in a registered name; encoding/json would replace them.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			b, err := json.Marshal(s)
			if err != nil {
				panic("nameproto: marshal string: " + err.Error()) // cannot happen
			}
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
