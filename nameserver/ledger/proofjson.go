package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

// ProofVersion is the "version" member of a proof.
const ProofVersion = 1

// MaxProof bounds an encoded proof in bytes: two paths of 63 hashes, 128 map
// levels, a checkpoint and the evidence.
const MaxProof = 96 << 10

// The JSON form (docs/protocols/ledger.md §6). All byte strings are standard
// base64; map siblings run from the root down, with "" for the empty subtree;
// inclusion hashes run from the leaf up, as in RFC 6962.
type proofJSON struct {
	Version    int           `json:"version"`
	Name       string        `json:"name,omitempty"`
	Address    *Address      `json:"address,omitempty"`
	Checkpoint string        `json:"checkpoint"`
	MapRoot    loggedJSON    `json:"map_root"`
	Siblings   []siblingJSON `json:"siblings"`
	Other      *otherJSON    `json:"other,omitempty"`
	Entry      *loggedJSON   `json:"entry,omitempty"`
	Evidence   *evidenceJSON `json:"evidence,omitempty"`
}

type loggedJSON struct {
	Index     int64  `json:"index"`
	Data      []byte `json:"data"`
	Inclusion []Hash `json:"inclusion"`
}

type otherJSON struct {
	Key       Hash  `json:"key"`
	Index     int64 `json:"index"`
	EntryHash Hash  `json:"entry_hash"`
}

type evidenceJSON struct {
	PublicKey []byte `json:"public_key"`
	Signature []byte `json:"signature"`
}

// siblingJSON is a hash, or "" for the empty subtree.
type siblingJSON Hash

func (s *siblingJSON) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		*s = siblingJSON{}
		return nil
	}
	return (*Hash)(s).UnmarshalJSON(b)
}

// MarshalJSON encodes the proof; see [Proof.AppendJSON].
func (p Proof) MarshalJSON() ([]byte, error) { return p.AppendJSON(nil), nil }

// AppendJSON appends the members of proofJSON in their order, without white
// space. It is written out because proofs are made for every lookup that asks
// for one, and encoding/json takes eight times as long.
func (p Proof) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"version":`...)
	dst = strconv.AppendInt(dst, ProofVersion, 10)
	if a := p.Subject.Address; a != nil {
		dst = append(dst, `,"address":"`...)
		dst = hex.AppendEncode(dst, a[:])
		dst = append(dst, '"')
	} else {
		dst = append(dst, `,"name":`...)
		dst = appendJSONString(dst, p.Subject.Name)
	}
	dst = append(dst, `,"checkpoint":`...)
	dst = appendJSONString(dst, string(p.Checkpoint))
	dst = append(dst, `,"map_root":`...)
	dst = appendLoggedJSON(dst, p.MapRoot)
	dst = append(dst, `,"siblings":`...)
	dst = appendHashesJSON(dst, p.Map.Siblings, true)
	if o := p.Map.Other; o != nil {
		dst = append(dst, `,"other":{"key":`...)
		dst = appendBase64(dst, o.Key[:])
		dst = append(dst, `,"index":`...)
		dst = strconv.AppendInt(dst, o.Index, 10)
		dst = append(dst, `,"entry_hash":`...)
		dst = appendBase64(dst, o.EntryHash[:])
		dst = append(dst, '}')
	}
	if p.Entry != nil {
		dst = append(dst, `,"entry":`...)
		dst = appendLoggedJSON(dst, *p.Entry)
	}
	if e := p.Evidence; e != nil {
		dst = append(dst, `,"evidence":{"public_key":`...)
		dst = appendBase64(dst, e.PublicKey)
		dst = append(dst, `,"signature":`...)
		dst = appendBase64(dst, e.Signature)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendLoggedJSON(dst []byte, l LoggedEntry) []byte {
	dst = append(dst, `{"index":`...)
	dst = strconv.AppendInt(dst, l.Index, 10)
	dst = append(dst, `,"data":`...)
	dst = appendBase64(dst, l.Data)
	dst = append(dst, `,"inclusion":`...)
	dst = appendHashesJSON(dst, l.Inclusion, false)
	return append(dst, '}')
}

// appendHashesJSON appends a list; among siblings the all-zero hash is "".
func appendHashesJSON(dst []byte, hashes []Hash, siblings bool) []byte {
	dst = append(dst, '[')
	for i := range hashes {
		if i > 0 {
			dst = append(dst, ',')
		}
		if siblings && hashes[i] == (Hash{}) {
			dst = append(dst, `""`...)
		} else {
			dst = appendBase64(dst, hashes[i][:])
		}
	}
	return append(dst, ']')
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

func appendJSONString(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("ledger: marshal string: " + err.Error()) // cannot happen
	}
	return append(dst, b...)
}

// UnmarshalJSON decodes the form of MarshalJSON and refuses unknown members.
func (p *Proof) UnmarshalJSON(b []byte) error {
	if len(b) > MaxProof {
		return fmt.Errorf("%w: proof of %d bytes", ErrMalformed, len(b))
	}
	var j proofJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("%w: proof: %v", ErrMalformed, err)
	}
	if j.Version != ProofVersion || (j.Name == "") == (j.Address == nil) {
		return fmt.Errorf("%w: proof version or subject", ErrMalformed)
	}
	*p = Proof{Subject: Subject{j.Name, j.Address}, Checkpoint: []byte(j.Checkpoint), MapRoot: LoggedEntry(j.MapRoot)}
	for _, s := range j.Siblings {
		p.Map.Siblings = append(p.Map.Siblings, Hash(s))
	}
	if o := j.Other; o != nil {
		p.Map.Other = &MapLeaf{MapKey(o.Key), o.Index, o.EntryHash}
	}
	if j.Entry != nil {
		p.Entry = (*LoggedEntry)(j.Entry)
	}
	if j.Evidence != nil {
		p.Evidence = (*Evidence)(j.Evidence)
	}
	return nil
}
