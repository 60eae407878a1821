package turnserver

import (
	"net/netip"
	"sync"
	"time"

	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/kernelpath"
	"github.com/jirani/jirani/turnserver/policy"
	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
)

// transport is how a client reaches the server.
type transport uint8

const (
	transportUDP transport = iota
	transportTCP
	transportTLS
	transportDTLS
)

func (t transport) String() string { return transportNames[t] }

// fiveTuple identifies a client's side of an allocation (RFC 8656 §3.2).
type fiveTuple struct {
	transport      transport
	client, server netip.AddrPort
}

// traffic counts what was relayed one way.
type traffic struct{ packets, bytes uint64 }

// alloc is one allocation: the relayed transport addresses a client has been given, and who may use them.
type alloc struct {
	srv    *Server
	number uint64 // unique while the process lives
	link   link
	tuple  fiveTuple
	id     identity
	began  time.Time
	txid   [stun.TransactionIDSize]byte // of the request that made it: a copy of that gets the same answer
	shape  shape
	token  []byte    // RESERVATION-TOKEN given with it, or nil
	failed int       // address family that ADDITIONAL-ADDRESS-FAMILY asked for in vain, or 0
	tcp    *tcpRelay // not nil for a TCP allocation (RFC 6062)

	mu         sync.Mutex // guards what follows
	udp        [2]*udpRelay
	expiresAt  time.Time
	closed     bool
	perms      allocation.Permissions
	channels   allocation.Channels[path]
	clientHint relay.Hint
	up, down   traffic
	reported   [2]traffic // what of up and down the metrics have
}

// path is what the data path keeps with a channel.
type path struct {
	relay *udpRelay
	hint  relay.Hint
	flow  *kernelpath.Flow // nil while user space relays it
	retry time.Time        // before which the kernel is not asked again
}

// udpRelay is one relayed transport address for UDP. It is the relay.Reader of its socket for datagram clients.
type udpRelay struct {
	alloc *alloc
	sock  *relay.Socket
	host  *relayHost
	port  uint16
}

// relayed returns the address as peers see it.
func (u *udpRelay) relayed() netip.AddrPort { return netip.AddrPortFrom(u.host.external, u.port) }

// relayHost is one address of this host that is relayed from.
type relayHost struct {
	local, external netip.Addr // the same unless the host is behind a NAT
	udp, tcp        *allocation.Ports
}

// relayFor returns the relayed transport address of the family of peer, or nil. The caller holds mu.
func (a *alloc) relayFor(peer netip.Addr) *udpRelay { return a.udp[familyOf(peer)-familyIPv4] }

// hasFamily reports whether the allocation has an address of the family of peer. The caller holds mu.
func (a *alloc) hasFamily(peer netip.Addr) bool {
	if a.tcp != nil {
		return peer.Is4() == a.tcp.host.local.Is4()
	}
	return a.relayFor(peer) != nil
}

// grant makes a permission. The caller holds mu.
func (a *alloc) grant(peer netip.Addr, now time.Time) bool {
	return a.perms.Grant(peer, a.srv.judge(peer), now)
}

// permitted reports whether data may flow to or from peer: there is a permission and the policy agrees. The caller holds mu.
func (a *alloc) permitted(peer netip.AddrPort, tcp bool, now time.Time) (policy.Reason, bool) {
	verdict, ok := a.perms.Check(peer.Addr(), now)
	if !ok {
		return verdict, false
	}
	if verdict == policy.Own && a.srv.relayedHere(peer, tcp) {
		return policy.Allowed, true
	}
	return verdict, verdict == policy.Allowed
}

// end frees everything the allocation holds. Further calls do nothing.
func (a *alloc) end() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	a.steer(time.Now())
	relays := a.udp
	a.udp = [2]*udpRelay{}
	a.mu.Unlock()
	for _, u := range relays {
		if u != nil {
			a.link.detach(u)
			u.host.udp.Give(u.port)
		}
	}
	if a.tcp != nil {
		a.tcp.close()
	}
	a.link.disown(a)
	a.srv.ended(a)
}

// endFamily gives one of two relayed transport addresses back (RFC 8656 §8.2).
func (a *alloc) endFamily(family int) {
	a.mu.Lock()
	u := a.udp[family-familyIPv4]
	a.udp[family-familyIPv4] = nil
	a.steer(time.Now())
	a.mu.Unlock()
	if u != nil {
		a.link.detach(u)
		u.host.udp.Give(u.port)
	}
}

// report moves what was relayed since the last call to the metrics.
func (a *alloc) report(m *metrics) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.countKernel()
	for i, now := range []traffic{a.up, a.down} {
		m.relayed[i].packets.Add(float64(now.packets - a.reported[i].packets))
		m.relayed[i].bytes.Add(float64(now.bytes - a.reported[i].bytes))
	}
	a.reported = [2]traffic{a.up, a.down}
}

// shape is the buckets that the allocation's bytes pass, by direction; nil ones limit nothing.
type shape struct{ up, down [3]*allocation.Bucket }

func take(buckets *[3]*allocation.Bucket, n int, now time.Time) bool {
	for _, b := range buckets {
		if b != nil && !b.Take(n, now) {
			return false
		}
	}
	return true
}

func delay(buckets *[3]*allocation.Bucket, n int, now time.Time) (d time.Duration) {
	for _, b := range buckets {
		d = max(d, b.Delay(n, now))
	}
	return d
}
