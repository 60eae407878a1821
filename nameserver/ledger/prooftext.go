package ledger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// proofHeader is the first line of the text form.
const proofHeader = "jirani-name-proof/v1"

// MarshalText encodes the proof as lines, to be kept in a file or pasted into
// a mail (docs/protocols/ledger.md §6):
//
//	jirani-name-proof/v1
//	name <base64>  or  address <hex>
//	map_root <index> <base64 entry>
//	inclusion <base64>                 any number, leaf up
//	sibling <base64, or - if empty>    any number, root down
//	other <base64 key> <index> <base64 entry hash>    at most one
//	entry <index> <base64 entry>       at most one, with its inclusion lines
//	inclusion <base64>
//	evidence <base64 key> <base64 signature>          at most one
//	                                   (an empty line)
//	<checkpoint>
func (p Proof) MarshalText() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(proofHeader + "\n")
	if p.Subject.Address != nil {
		fmt.Fprintf(&b, "address %s\n", p.Subject.Address)
	} else {
		fmt.Fprintf(&b, "name %s\n", base64.StdEncoding.EncodeToString([]byte(p.Subject.Name)))
	}
	writeLogged(&b, "map_root", p.MapRoot)
	for _, s := range p.Map.Siblings {
		if s == (Hash{}) {
			b.WriteString("sibling -\n")
		} else {
			fmt.Fprintf(&b, "sibling %v\n", s)
		}
	}
	if o := p.Map.Other; o != nil {
		fmt.Fprintf(&b, "other %v %d %v\n", Hash(o.Key), o.Index, o.EntryHash)
	}
	if p.Entry != nil {
		writeLogged(&b, "entry", *p.Entry)
	}
	if e := p.Evidence; e != nil {
		fmt.Fprintf(&b, "evidence %s %s\n", base64.StdEncoding.EncodeToString(e.PublicKey), base64.StdEncoding.EncodeToString(e.Signature))
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes(), nil
}

func writeLogged(b *bytes.Buffer, word string, l LoggedEntry) {
	fmt.Fprintf(b, "%s %d %s\n", word, l.Index, base64.StdEncoding.EncodeToString(l.Data))
	for _, h := range l.Inclusion {
		fmt.Fprintf(b, "inclusion %v\n", h)
	}
}

// UnmarshalText decodes the form of MarshalText.
func (p *Proof) UnmarshalText(text []byte) error {
	head, checkpoint, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok || len(text) > MaxProof {
		return fmt.Errorf("%w: proof without a checkpoint", ErrMalformed)
	}
	*p = Proof{Checkpoint: checkpoint}
	lines := strings.Split(string(head), "\n")
	if lines[0] != proofHeader {
		return fmt.Errorf("%w: proof begins with %.40q", ErrMalformed, lines[0])
	}
	t := textProof{p: p}
	for i, line := range lines[1:] {
		if err := t.line(strings.Split(line, " ")); err != nil {
			return fmt.Errorf("%w: proof line %d: %v", ErrMalformed, i+2, err)
		}
	}
	if (p.Subject.Name == "") == (p.Subject.Address == nil) || !t.root {
		return fmt.Errorf("%w: proof without a subject or map root", ErrMalformed)
	}
	return nil
}

// textProof fills p line by line; inclusion lines belong to the entry last
// begun.
type textProof struct {
	p    *Proof
	last *LoggedEntry
	root bool
}

func (t *textProof) line(f []string) error {
	want := map[string]int{"name": 2, "address": 2, "map_root": 3, "inclusion": 2, "sibling": 2, "other": 4, "entry": 3, "evidence": 3}[f[0]]
	if len(f) != want {
		return fmt.Errorf("%.20q with %d fields", f[0], len(f))
	}
	switch f[0] {
	case "name":
		b, err := base64.StdEncoding.DecodeString(f[1])
		t.p.Subject.Name = string(b)
		return err
	case "address":
		a, err := ParseAddress(f[1])
		t.p.Subject.Address = &a
		return err
	case "map_root":
		t.last, t.root = &t.p.MapRoot, true
		return parseLogged(t.last, f)
	case "entry":
		t.p.Entry = new(LoggedEntry)
		t.last = t.p.Entry
		return parseLogged(t.last, f)
	case "inclusion":
		h, err := parseHash(f[1])
		if t.last == nil {
			return fmt.Errorf("inclusion of nothing")
		}
		t.last.Inclusion = append(t.last.Inclusion, h)
		return err
	case "sibling":
		h, err := parseSibling(f[1])
		t.p.Map.Siblings = append(t.p.Map.Siblings, h)
		return err
	case "other":
		return t.other(f)
	}
	return t.evidence(f)
}

func (t *textProof) other(f []string) error {
	key, err := parseHash(f[1])
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return err
	}
	h, err := parseHash(f[3])
	t.p.Map.Other = &MapLeaf{MapKey(key), index, h}
	return err
}

func (t *textProof) evidence(f []string) (err error) {
	e := new(Evidence)
	if e.PublicKey, err = base64.StdEncoding.DecodeString(f[1]); err != nil {
		return err
	}
	e.Signature, err = base64.StdEncoding.DecodeString(f[2])
	t.p.Evidence = e
	return err
}

func parseLogged(l *LoggedEntry, f []string) (err error) {
	if l.Index, err = strconv.ParseInt(f[1], 10, 64); err != nil {
		return err
	}
	l.Data, err = base64.StdEncoding.DecodeString(f[2])
	return err
}

func parseSibling(s string) (Hash, error) {
	if s == "-" {
		return Hash{}, nil
	}
	return parseHash(s)
}

func parseHash(s string) (h Hash, err error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("hash %.50q", s)
	}
	return Hash(b), nil
}
