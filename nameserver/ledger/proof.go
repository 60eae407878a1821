package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Subject says what a proof is about: a name's lookup key or an address.
// Exactly one is set.
type Subject struct {
	Name    string
	Address *Address
}

// MapKey returns the place in the map.
func (s Subject) MapKey() MapKey {
	if s.Address != nil {
		return AddressKey(*s.Address)
	}
	return NameKey(s.Name)
}

// LoggedEntry is an entry with its place and its inclusion proof in the log of
// the checkpoint it goes along with.
type LoggedEntry struct {
	Index     int64
	Data      []byte
	Inclusion []Hash
}

// Proof shows what the log says about one name or address, found or not, as of
// one checkpoint. It has three parts: MapRoot is the last leaf of the
// checkpoint; Map leads from its root to the subject's place; Entry, when
// something is there, is the entry the map points to. Evidence, which may be
// absent, shows that the account itself asked for the registration.
//
// [Proof.Verify] is the specification of how they hang together; the byte forms
// are those of MarshalText and MarshalJSON.
type Proof struct {
	Subject    Subject
	Checkpoint []byte
	MapRoot    LoggedEntry
	Map        MapProof
	Entry      *LoggedEntry
	Evidence   *Evidence
}

// Verdict is what a proof that holds proves.
type Verdict struct {
	Checkpoint Checkpoint
	Note       *note.Note // the checkpoint's known signatures
	MapRoot    *MapRoot
	Entry      Entry // *Register or *Tombstone; nil: nothing is registered
	Index      int64
}

// Register returns the registration proven, or nil when the name is free, the
// address has none, or the name is burnt.
func (v Verdict) Register() *Register {
	r, _ := v.Entry.(*Register)
	return r
}

// Verify checks the whole proof against the log's origin and keys: signature,
// last leaf, map path, entry, and the evidence where it is given. Any error
// means the answer must not be believed. Cosignatures by the witnesses given
// are reported in the verdict's note; how many are wanted is the caller's rule.
func (p *Proof) Verify(origin string, log note.Verifiers, witnesses ...note.Verifier) (Verdict, error) {
	cp, n, err := OpenCheckpoint(p.Checkpoint, origin, log, witnesses...)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{Checkpoint: cp, Note: n, Index: -1}
	if v.MapRoot, err = p.verifyMapRoot(cp); err != nil {
		return Verdict{}, err
	}
	if p.Entry == nil {
		return v, p.Map.Absent(v.MapRoot.Root, p.Subject.MapKey())
	}
	if v.Entry, err = p.verifyEntry(cp, v.MapRoot); err != nil {
		return Verdict{}, err
	}
	v.Index = p.Entry.Index
	return v, nil
}

// verifyMapRoot checks that the last leaf under the checkpoint is a MapRoot
// over everything before it.
func (p *Proof) verifyMapRoot(cp Checkpoint) (*MapRoot, error) {
	if p.MapRoot.Index != cp.Size-1 {
		return nil, fmt.Errorf("%w: map root at %d in a log of %d", ErrProof, p.MapRoot.Index, cp.Size)
	}
	e, err := p.MapRoot.verify(cp)
	if err != nil {
		return nil, err
	}
	root, ok := e.(*MapRoot)
	if !ok || root.Size != uint64(p.MapRoot.Index) {
		return nil, fmt.Errorf("%w: last leaf is a %v, not the map root of size %d", ErrProof, e.Kind(), p.MapRoot.Index)
	}
	return root, nil
}

func (p *Proof) verifyEntry(cp Checkpoint, root *MapRoot) (Entry, error) {
	e, err := p.Entry.verify(cp)
	if err != nil {
		return nil, err
	}
	if err := p.Subject.matches(e); err != nil {
		return nil, err
	}
	leaf := MapLeaf{Key: p.Subject.MapKey(), Index: p.Entry.Index, EntryHash: LeafHash(p.Entry.Data)}
	if err := p.Map.Included(root.Root, leaf); err != nil {
		return nil, err
	}
	if reg, ok := e.(*Register); ok && p.Evidence != nil {
		return e, reg.Verify(*p.Evidence)
	}
	return e, nil
}

func (s Subject) matches(e Entry) error {
	switch e := e.(type) {
	case *Register:
		if s.Address != nil && e.Address == *s.Address || s.Address == nil && e.LookupKey() == s.Name {
			return nil
		}
	case *Tombstone:
		if s.Address == nil && e.Key == s.Name {
			return nil
		}
	}
	return fmt.Errorf("%w: entry (%v) is about something else", ErrProof, e.Kind())
}

func (l *LoggedEntry) verify(cp Checkpoint) (Entry, error) {
	if l.Index < 0 || l.Index >= cp.Size {
		return nil, fmt.Errorf("%w: entry %d in a log of %d", ErrProof, l.Index, cp.Size)
	}
	if err := tlog.CheckRecord(l.Inclusion, cp.Size, cp.Root, l.Index, LeafHash(l.Data)); err != nil {
		return nil, fmt.Errorf("%w: entry %d: %v", ErrProof, l.Index, err)
	}
	return ParseEntry(l.Data)
}
