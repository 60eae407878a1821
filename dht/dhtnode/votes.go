package dhtnode

import (
	"cmp"
	"net/netip"
	"slices"
)

// Bounds of the opinions kept on our public address, for each family (docs/protocols/opendht.md §14.4).
const (
	maxReported = 32
	maxVoters   = 64 // networks whose vote on one address is counted
)

// votes collects what others say our address is: one vote for each /24 or /48, so that one network cannot decide alone.
type votes struct{ reported []report }

type report struct {
	addr   netip.Addr
	voters map[netip.Prefix]struct{}
}

// add counts a vote and reports whether the first place changed.
func (v *votes) add(claim, voter netip.Addr) bool {
	first := v.first()
	i := slices.IndexFunc(v.reported, func(r report) bool { return r.addr == claim })
	if i < 0 {
		if len(v.reported) >= maxReported {
			v.reported = v.reported[:maxReported-1]
		}
		i = len(v.reported)
		v.reported = append(v.reported, report{claim, make(map[netip.Prefix]struct{})})
	}
	from := voterNetwork(voter)
	r := v.reported[i]
	if _, dup := r.voters[from]; dup || len(r.voters) >= maxVoters {
		return false
	}
	r.voters[from] = struct{}{}
	slices.SortStableFunc(v.reported, func(a, b report) int { return cmp.Compare(len(b.voters), len(a.voters)) })
	return v.first() != first
}

// first returns the address most networks named, or the zero Addr.
func (v *votes) first() netip.Addr {
	if len(v.reported) == 0 {
		return netip.Addr{}
	}
	return v.reported[0].addr
}

func (v *votes) all() (addrs []netip.Addr) {
	for _, r := range v.reported {
		addrs = append(addrs, r.addr)
	}
	return addrs
}

func voterNetwork(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}
