package dhtnode

import (
	"container/list"
	"net/netip"
	"time"
)

// Blacklist bounds: upstream has neither (docs/protocols/opendht.md §13.2).
const (
	maxBlacklist = 1024
	blacklistFor = time.Hour
)

// martian reports whether no node can live at a (§13.3).
func martian(a netip.AddrPort) bool {
	ip := a.Addr()
	if a.Port() == 0 || !ip.IsValid() {
		return true
	}
	if ip.Is4() {
		b := ip.As4()
		return b[0] == 0 || b[0] >= 224
	}
	return ip.Is4In6() || ip.IsMulticast() || ip.IsUnspecified()
}

// blacklist holds addresses we no longer talk to, the least recently added giving way, each for an hour.
type blacklist struct {
	byAddr map[netip.AddrPort]*list.Element
	order  list.List // of banned, oldest first
}

type banned struct {
	addr  netip.AddrPort
	until time.Time
}

func newBlacklist() *blacklist { return &blacklist{byAddr: make(map[netip.AddrPort]*list.Element)} }

func (b *blacklist) add(a netip.AddrPort, now time.Time) {
	if e := b.byAddr[a]; e != nil {
		b.order.Remove(e)
	} else if b.order.Len() >= maxBlacklist {
		b.remove(b.order.Front())
	}
	b.byAddr[a] = b.order.PushBack(banned{a, now.Add(blacklistFor)})
}

func (b *blacklist) has(a netip.AddrPort, now time.Time) bool {
	if len(b.byAddr) == 0 {
		return false
	}
	e := b.byAddr[a]
	if e == nil {
		return false
	}
	if now.Before(e.Value.(banned).until) {
		return true
	}
	b.remove(e)
	return false
}

func (b *blacklist) remove(e *list.Element) {
	delete(b.byAddr, e.Value.(banned).addr)
	b.order.Remove(e)
}
