package dhtnode

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// docs/protocols/opendht.md §1.4, §14.2. Upstream's pauses grow up to a day, so that after an outage of a night a node may stay
// alone until noon. Three small packets and a look-up in a quarter of an hour cost nobody anything.
const (
	DefaultPort      = 4222
	bootstrapRetry   = 10 * time.Second // doubling
	bootstrapMax     = 15 * time.Minute
	resolveTimeout   = 20 * time.Second
	maxBootstrapIPs  = 64 // addresses taken from one round of look-ups
	isolationRecheck = 10 * time.Second
)

// bootstrapState is where the bootstrap stands. Owned by the node's lock.
type bootstrapState struct {
	tries   int    // rounds since the last connection
	pings   [2]int // bootstrap pings in flight
	running bool   // a round is being prepared
}

func (b *bootstrapState) pending(i int) int { return b.pings[i] }
func (b *bootstrapState) restart()          { b.tries = 0 }
func (b *bootstrapState) connected()        { b.tries = 0 }
func (b *bootstrapState) due() bool         { return b.running }

// pause is how long to wait after the n-th round.
func (b *bootstrapState) pause() time.Duration {
	d := bootstrapRetry
	for i := 1; i < b.tries && d < bootstrapMax; i++ {
		d *= 2
	}
	return min(d, bootstrapMax)
}

// Bootstrap adds entry points, in the form of Config.Bootstrap, and tries them at once if the node is disconnected.
func (n *Node) Bootstrap(hosts ...string) {
	n.mu.Lock()
	n.hosts = append(n.hosts[:len(n.hosts):len(n.hosts)], hosts...)
	n.boot.restart()
	n.boot.running = true
	n.mu.Unlock()
	poke(n.rearm)
}

// AddNode makes a node known whose id is known too, from a state file or discovery on the LAN. It is not contacted until
// it is needed (§14.2).
func (n *Node) AddNode(a dht.NodeAddr) {
	n.turn(func(now time.Time) {
		f := n.fam[familyOf(a.Addr.Addr())]
		if f == nil || a.ID == n.self || a.ID.IsZero() || !n.allowed(a.Addr) {
			return
		}
		node := f.cache.Get(a.ID, a.Addr, false, now)
		n.offer(f, node, routing.Mentioned, now)
		if n.familyStatus(familyOf(a.Addr.Addr()), now) != Connected {
			n.agenda.setEarlier(&f.maintain, now)
		}
	})
}

// bootstrapLoop runs a round whenever both families are disconnected, with growing pauses.
func (n *Node) bootstrapLoop(ctx context.Context) {
	n.mu.Lock()
	n.boot.running = len(n.hosts) > 0
	n.mu.Unlock()
	var notBefore time.Time
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.rearm:
			if n.fresh() {
				notBefore = time.Time{}
			}
		case <-t.C:
		}
		now := n.clock()
		if wait := notBefore.Sub(now); wait > 0 {
			t.Reset(wait)
			continue
		}
		if n.isolated(now) {
			n.bootstrapRound(ctx)
			n.mu.Lock()
			n.boot.tries++
			pause := n.boot.pause()
			n.mu.Unlock()
			notBefore = n.clock().Add(pause)
			t.Reset(pause)
		} else {
			t.Reset(isolationRecheck)
		}
	}
}

// fresh reports whether the count of rounds was reset since the last.
func (n *Node) fresh() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.boot.tries == 0
}

// isolated reports whether a round should run: hosts known, and nobody else (§14.2).
func (n *Node) isolated(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.hosts) == 0 {
		return false
	}
	return n.familyStatus(inet4, now) == Disconnected && n.familyStatus(inet6, now) == Disconnected
}

// bootstrapRound resolves all hosts and pings every address.
func (n *Node) bootstrapRound(ctx context.Context) {
	n.mu.Lock()
	hosts := n.hosts
	n.boot.running = true
	n.mu.Unlock()
	var addrs []netip.AddrPort
	for _, h := range hosts {
		found, err := n.resolve(ctx, h)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("bootstrap host not found", "host", h, "err", err)
		}
		addrs = append(addrs, found...)
	}
	n.turn(func(now time.Time) {
		n.boot.running = false
		for _, a := range addrs[:min(len(addrs), maxBootstrapIPs)] {
			n.knock(a, now)
		}
		n.checkStatus(now)
	})
}

// knock pings an address whose node id is unknown.
func (n *Node) knock(a netip.AddrPort, now time.Time) {
	i := familyOf(a.Addr())
	f := n.fam[i]
	if f == nil || martian(a) {
		return
	}
	n.boot.pings[i]++
	n.requestAddr(f, a, &wire.Packet{Kind: wire.Ping}, now, func(ans answer, now time.Time) {
		n.boot.pings[i]--
		if ans.ok() {
			n.find(f, ans.node, n.self, n.want(), now, nil)
			return
		}
		n.checkStatus(now)
	})
}

// resolve returns all addresses of a host; a literal address needs no look-up.
func (n *Node) resolve(ctx context.Context, hostport string) ([]netip.AddrPort, error) {
	host, port := splitHost(hostport)
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := n.resolver.LookupNetIP(ctx, "ip", host)
	var addrs []netip.AddrPort
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return addrs, err
}

// splitHost reads "host", "host:port", "[v6]:port" or a bare IPv6 address.
func splitHost(s string) (host string, port uint16) {
	s = strings.TrimSpace(s)
	if h, p, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err == nil && n > 0 {
			return h, uint16(n)
		}
		return h, DefaultPort
	}
	return strings.Trim(s, "[]"), DefaultPort
}
