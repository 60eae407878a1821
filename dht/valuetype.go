package dht

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"
)

// Numbers of the value types every node knows (§7). Jami puts its own
// structures into TypeUserData and TypeTrustRequest.
const (
	TypeUserData      ValueTypeID = 0
	TypeDhtMessage    ValueTypeID = 1
	TypeIPService     ValueTypeID = 2
	TypeImMessage     ValueTypeID = 3
	TypeTrustRequest  ValueTypeID = 4
	TypeIceCandidates ValueTypeID = 5
	TypeCertificate   ValueTypeID = 8
)

// DefaultLifetime is that of user data and of types nobody registered.
const DefaultLifetime = 10 * time.Minute

// StorePolicy decides on a value that is new at place key and came from the
// address from. It returns the value to store, which may be another one than
// was offered, or an error that wraps ErrRefused. It MUST NOT change v.
type StorePolicy func(key InfoHash, v *Value, from netip.AddrPort) (*Value, error)

// EditPolicy decides on a value offered under the id of a stored one that it
// does not equal. Its result is as for StorePolicy.
type EditPolicy func(key InfoHash, stored, offered *Value, from netip.AddrPort) (*Value, error)

// ValueType is a type's lifetime and policies.
type ValueType struct {
	ID       ValueTypeID
	Name     string        // for people
	Lifetime time.Duration // after which a value that nobody refreshed goes
	Store    StorePolicy   // nil means StoreIfSmall
	Edit     EditPolicy    // nil means NeverEdit
}

// StoreIfSmall accepts values up to MaxValueSize: the default store policy.
func StoreIfSmall(_ InfoHash, v *Value, _ netip.AddrPort) (*Value, error) {
	if n := v.Size(); n > MaxValueSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrRefused, n)
	}
	return v, nil
}

// NeverEdit refuses every change: the default edit policy.
func NeverEdit(InfoHash, *Value, *Value, netip.AddrPort) (*Value, error) {
	return nil, fmt.Errorf("%w: type cannot be edited", ErrRefused)
}

// Verifier checks a signed value: nil when its signature holds. [Value.Verify]
// is one; a node passes its own to look up what its verification pool found.
type Verifier func(*Value) error

// Secured wraps a type with the rules for signed values (§7.1): a signed value
// is stored only if it verifies, and edited only by its owner with a higher
// sequence number. Unlike upstream, the size is checked first in every case.
func Secured(t ValueType, verify Verifier) ValueType {
	base := t.Store
	if base == nil {
		base = StoreIfSmall
	}
	t.Store = func(key InfoHash, v *Value, from netip.AddrPort) (*Value, error) {
		if !v.IsSigned() {
			return base(key, v, from)
		}
		if _, err := StoreIfSmall(key, v, from); err != nil {
			return nil, err
		}
		if err := verify(v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return v, nil
	}
	t.Edit = func(key InfoHash, stored, offered *Value, from netip.AddrPort) (*Value, error) {
		if err := mayEdit(stored, offered); err != nil {
			return nil, err
		}
		if _, err := StoreIfSmall(key, offered, from); err != nil {
			return nil, err
		}
		if err := verify(offered); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return offered, nil
	}
	return t
}

// mayEdit applies §7.1's table but for the signature itself.
func mayEdit(stored, offered *Value) error {
	switch {
	case !stored.IsSigned():
		return fmt.Errorf("%w: stored value is not signed", ErrRefused)
	case !offered.IsSigned():
		return fmt.Errorf("%w: edit is not signed", ErrRefused)
	case !stored.Owner.Equal(offered.Owner):
		return fmt.Errorf("%w: edit by another owner", ErrRefused)
	case offered.Seq < stored.Seq:
		return fmt.Errorf("%w: edit with lower seq", ErrRefused)
	case offered.Seq == stored.Seq && !bytes.Equal(stored.AppendBody(nil), offered.AppendBody(nil)):
		return fmt.Errorf("%w: edit with the same seq", ErrRefused)
	}
	return nil
}

// Types is a set of value types. It is not safe for concurrent change; fill it
// before use. The zero value knows none and treats all as unregistered.
type Types struct {
	known map[ValueTypeID]ValueType
}

// unregistered is how a node treats a type it does not know: as user data but
// without the rules for signed values (§7).
var unregistered = ValueType{Name: "unregistered", Lifetime: DefaultLifetime, Store: StoreIfSmall, Edit: NeverEdit}

// Register adds or replaces a type. Missing policies and a missing lifetime
// are filled with the defaults.
func (t *Types) Register(vt ValueType) {
	if vt.Store == nil {
		vt.Store = StoreIfSmall
	}
	if vt.Edit == nil {
		vt.Edit = NeverEdit
	}
	if vt.Lifetime <= 0 {
		vt.Lifetime = DefaultLifetime
	}
	if t.known == nil {
		t.known = make(map[ValueTypeID]ValueType)
	}
	t.known[vt.ID] = vt
}

// Get returns the type of that number; unknown ones get the rules of
// unregistered types.
func (t *Types) Get(id ValueTypeID) ValueType {
	if vt, ok := t.known[id]; ok {
		return vt
	}
	vt := unregistered
	vt.ID = id
	return vt
}

// Lifetime is that of the type of number id.
func (t *Types) Lifetime(id ValueTypeID) time.Duration { return t.Get(id).Lifetime }
