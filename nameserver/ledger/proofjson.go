package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
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

func (s siblingJSON) MarshalJSON() ([]byte, error) {
	if Hash(s) == (Hash{}) {
		return []byte(`""`), nil
	}
	return Hash(s).MarshalJSON()
}

func (s *siblingJSON) UnmarshalJSON(b []byte) error {
	if string(b) == `""` {
		*s = siblingJSON{}
		return nil
	}
	return (*Hash)(s).UnmarshalJSON(b)
}

// MarshalJSON encodes the proof.
func (p Proof) MarshalJSON() ([]byte, error) {
	j := proofJSON{
		Version: ProofVersion, Name: p.Subject.Name, Address: p.Subject.Address, Checkpoint: string(p.Checkpoint),
		MapRoot: toLoggedJSON(p.MapRoot), Siblings: make([]siblingJSON, len(p.Map.Siblings)),
	}
	for i, h := range p.Map.Siblings {
		j.Siblings[i] = siblingJSON(h)
	}
	if o := p.Map.Other; o != nil {
		j.Other = &otherJSON{Hash(o.Key), o.Index, o.EntryHash}
	}
	if p.Entry != nil {
		e := toLoggedJSON(*p.Entry)
		j.Entry = &e
	}
	if p.Evidence != nil {
		j.Evidence = &evidenceJSON{p.Evidence.PublicKey, p.Evidence.Signature}
	}
	return json.Marshal(j)
}

func toLoggedJSON(l LoggedEntry) loggedJSON {
	if l.Inclusion == nil {
		l.Inclusion = []Hash{}
	}
	return loggedJSON(l)
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
