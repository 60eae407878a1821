package allocation

import (
	"net/netip"
	"time"

	"github.com/jirani/jirani/turnserver/policy"
)

const (
	// PermissionTTL is the life of a permission (RFC 8656 §9: 300 seconds, not negotiable).
	PermissionTTL = 300 * time.Second
	// MaxPermissions bounds the permissions of one allocation. Jami asks for at most 31 at once.
	MaxPermissions = 256
)

// Permissions are the peer addresses that an allocation exchanges data with (RFC 8656 §9). The zero value is empty.
//
// A permission remembers the verdict of the policy: RFC 8656 would refuse a whole request for one forbidden address, and Jami's clients
// then lose the allowed ones too, so that every permission is granted and the verdict is obeyed when data flows
// (docs/protocols/turn-usage.md §5).
type Permissions struct {
	list []permission // few: a linear search beats a map and costs no memory when empty
}

type permission struct {
	addr      netip.Addr
	verdict   policy.Reason
	expiresAt time.Time
}

// Grant makes or refreshes the permission for addr. It reports false when the table is full of live ones.
func (p *Permissions) Grant(addr netip.Addr, verdict policy.Reason, now time.Time) bool {
	entry := permission{addr, verdict, now.Add(PermissionTTL)}
	free := -1
	for i := range p.list {
		if p.list[i].addr == addr {
			p.list[i] = entry
			return true
		}
		if now.After(p.list[i].expiresAt) {
			free = i
		}
	}
	switch {
	case free >= 0:
		p.list[free] = entry
	case len(p.list) < MaxPermissions:
		p.list = append(p.list, entry)
	default:
		return false
	}
	return true
}

// Check reports whether addr has a live permission, and the policy's verdict on it.
func (p *Permissions) Check(addr netip.Addr, now time.Time) (verdict policy.Reason, ok bool) {
	for i := range p.list {
		if e := &p.list[i]; e.addr == addr {
			return e.verdict, !now.After(e.expiresAt)
		}
	}
	return policy.Allowed, false
}

// ExpiresAt returns when the permission for addr ends or has ended; the zero time if there is none.
func (p *Permissions) ExpiresAt(addr netip.Addr) time.Time {
	for i := range p.list {
		if p.list[i].addr == addr {
			return p.list[i].expiresAt
		}
	}
	return time.Time{}
}

// Live returns how many permissions have not expired.
func (p *Permissions) Live(now time.Time) (n int) {
	for i := range p.list {
		if !now.After(p.list[i].expiresAt) {
			n++
		}
	}
	return n
}
