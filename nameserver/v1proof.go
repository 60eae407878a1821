package nameserver

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/jirani/jirani/nameserver/ledger"
)

// Proof is a ledger.Proof as /v1 shows it: hashes in hex, bytes in base64.
type Proof struct {
	Subject    ProofSubject   `json:"subject"`
	Checkpoint string         `json:"checkpoint"` // the signed note
	MapRoot    ProofEntry     `json:"map_root"`
	Map        ProofPath      `json:"map"`
	Entry      *ProofEntry    `json:"entry,omitempty"`    // absent: nothing is registered
	Evidence   *ProofEvidence `json:"evidence,omitempty"` // of a registration
}

// ProofSubject is what a proof is about: one of the two.
type ProofSubject struct {
	Name    string `json:"name,omitempty"` // lookup form
	Address string `json:"address,omitempty"`
}

// ProofEntry is an entry of the log with its inclusion proof.
type ProofEntry struct {
	Index     int64    `json:"index"`
	Data      []byte   `json:"data"`
	Inclusion []string `json:"inclusion"`
}

// ProofPath is a path through the map.
type ProofPath struct {
	Siblings []string   `json:"siblings"` // from the root down
	Other    *ProofLeaf `json:"other,omitempty"`
}

// ProofLeaf is another key's leaf, where the path of an absent one ends.
type ProofLeaf struct {
	Key       string `json:"key"`
	Index     int64  `json:"index"`
	EntryHash string `json:"entry_hash"`
}

// ProofEvidence is what the account sent.
type ProofEvidence struct {
	PublicKey []byte `json:"public_key"` // DER
	Signature []byte `json:"signature"`
}

func proofOf(p ledger.Proof) Proof {
	out := Proof{
		Subject: ProofSubject{Name: p.Subject.Name}, Checkpoint: string(p.Checkpoint),
		MapRoot: proofEntry(p.MapRoot), Map: ProofPath{Siblings: hexes(p.Map.Siblings)},
	}
	if p.Subject.Address != nil {
		out.Subject.Address = p.Subject.Address.String()
	}
	if o := p.Map.Other; o != nil {
		out.Map.Other = &ProofLeaf{Key: hex.EncodeToString(o.Key[:]), Index: o.Index, EntryHash: hex.EncodeToString(o.EntryHash[:])}
	}
	if p.Entry != nil {
		e := proofEntry(*p.Entry)
		out.Entry = &e
	}
	if p.Evidence != nil {
		out.Evidence = &ProofEvidence{PublicKey: p.Evidence.PublicKey, Signature: p.Evidence.Signature}
	}
	return out
}

func proofEntry(e ledger.LoggedEntry) ProofEntry {
	return ProofEntry{Index: e.Index, Data: e.Data, Inclusion: hexes(e.Inclusion)}
}

func hexes(hashes []ledger.Hash) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = hex.EncodeToString(h[:])
	}
	return out
}

// ParseProof reads a proof in the form of our API. It does not verify it.
func ParseProof(b []byte) (ledger.Proof, error) {
	var in Proof
	if err := json.Unmarshal(b, &in); err != nil {
		return ledger.Proof{}, fmt.Errorf("%w: proof: %v", ledger.ErrMalformed, err)
	}
	out := ledger.Proof{Subject: ledger.Subject{Name: in.Subject.Name}, Checkpoint: []byte(in.Checkpoint)}
	var bad error
	hash := func(s string) (h ledger.Hash) {
		if b, err := hex.DecodeString(s); err != nil || copy(h[:], b) != len(h) || len(b) != len(h) {
			bad = fmt.Errorf("%w: proof: %.80q is not a hash", ledger.ErrMalformed, s)
		}
		return h
	}
	hashes := func(list []string) []ledger.Hash {
		out := make([]ledger.Hash, len(list))
		for i, s := range list {
			out[i] = hash(s)
		}
		return out
	}
	entry := func(e ProofEntry) ledger.LoggedEntry {
		return ledger.LoggedEntry{Index: e.Index, Data: e.Data, Inclusion: hashes(e.Inclusion)}
	}
	if in.Subject.Address != "" {
		a, err := ledger.ParseAddress(in.Subject.Address)
		if err != nil {
			return out, err
		}
		out.Subject.Address = &a
	}
	out.MapRoot, out.Map.Siblings = entry(in.MapRoot), hashes(in.Map.Siblings)
	if o := in.Map.Other; o != nil {
		out.Map.Other = &ledger.MapLeaf{Key: ledger.MapKey(hash(o.Key)), Index: o.Index, EntryHash: hash(o.EntryHash)}
	}
	if in.Entry != nil {
		e := entry(*in.Entry)
		out.Entry = &e
	}
	if in.Evidence != nil {
		out.Evidence = &ledger.Evidence{PublicKey: in.Evidence.PublicKey, Signature: in.Evidence.Signature}
	}
	return out, bad
}
