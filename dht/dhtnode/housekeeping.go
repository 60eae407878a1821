package dhtnode

import (
	"math/rand/v2"
	"time"

	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// docs/protocols/opendht.md §8, §9.4.
const (
	sweepMin, sweepMax            = 2 * time.Minute, 6 * time.Minute
	maintainFirst                 = 3 * time.Second
	maintainFirstSpread           = 2 * time.Second
	maintainSoon, maintainSoonMax = 5 * time.Second, 25 * time.Second
	maintainIdle, maintainIdleMax = 60 * time.Second, 180 * time.Second
	grownLongAgo                  = 5 * time.Minute
	seekEvery                     = 5 * time.Minute // between two tries to find somebody lost again
)

// A node that just entered asks its neighbours at this pace while they still name new ones. The reference waits 5 to 25 s
// from the start, so that an entry point which met its neighbours a moment too late is asked again only much later; in a
// small network that is most of the time to know everybody.
const (
	maintainGrowing, maintainGrowingMax = 1 * time.Second, 4 * time.Second
	growing                             = 15 * time.Second // since the table last grew
)

// schedule sets up everything that happens by itself.
func (n *Node) schedule(now time.Time) {
	n.expiry.fire = n.expiryDue
	n.sweep.fire = n.sweepDue
	n.sweepTimer.fire = n.partsDue
	n.replica.fire = n.replicate
	n.pace.timer.fire = n.paceDue
	if n.cfg.Maintain {
		n.agenda.set(&n.replica, now.Add(replicateEvery))
	}
	n.agenda.set(&n.sweep, now.Add(sweepMin+rand.N(sweepMax-sweepMin)))
	for _, f := range n.families {
		f.maintain.fire = func(now time.Time) { n.maintain(f, now) }
		n.agenda.set(&f.maintain, now.Add(maintainFirst+rand.N(maintainFirstSpread)))
	}
}

// scheduleExpiry makes the agenda follow the earliest end of life in storage.
func (n *Node) scheduleExpiry() {
	if at, ok := n.store.Next(); ok {
		n.agenda.set(&n.expiry, at)
	} else {
		n.agenda.stop(&n.expiry)
	}
}

func (n *Node) expiryDue(now time.Time) {
	n.gone = n.store.Expire(now, n.gone[:0])
	n.pushGone(n.gone, now)
	if at, ok := n.store.Next(); ok {
		n.agenda.set(&n.expiry, later(at, now.Add(time.Millisecond)))
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// sweepDue is the expiry sweep: tables, listeners, token secrets.
func (n *Node) sweepDue(now time.Time) {
	for _, f := range n.families {
		n.pingAll(f, f.table.Sweep(nil), now)
	}
	n.store.SweepListeners(now)
	n.tokens.rotate(now)
	n.agenda.set(&n.sweep, now.Add(sweepMin+rand.N(sweepMax-sweepMin)))
}

// maintain is one step of keeping a table fresh (§9.4).
func (n *Node) maintain(f *family, now time.Time) {
	if len(f.searches) == 0 && f.table.Connected(now) {
		n.searchFor(f, n.self, now).explore = true
	}
	probes := f.table.Maintain(now, nil)
	for _, p := range probes {
		n.find(f, p.Node, p.Target, n.wantFor(f, p), now, nil)
	}
	n.seekLost(f, now)
	n.agenda.set(&f.maintain, now.Add(f.pause(len(probes) > 0, now)))
	n.checkStatus(now)
}

// seekLost now and then pings somebody who stopped answering. Both halves of a parted network take each other for dead within
// minutes, and with everybody well connected nothing else would ever try whether they are back.
func (n *Node) seekLost(f *family, now time.Time) {
	if now.Sub(f.sought) < seekEvery {
		return
	}
	f.sought = now
	if node := f.cache.Lost(); node != nil {
		n.ping(f, node, now)
	}
}

// pause is how long to wait for the next step of maintenance.
func (f *family) pause(busy bool, now time.Time) time.Duration {
	from, to := maintainIdle, maintainIdleMax
	switch {
	case busy && now.Sub(f.table.Grown()) < growing:
		from, to = maintainGrowing, maintainGrowingMax
	case busy:
		from, to = maintainSoon, maintainSoonMax
	}
	return from + rand.N(to-from)
}

// wantFor asks for both families when the other one's bucket has room there.
func (n *Node) wantFor(f *family, p routing.Probe) wire.Want {
	other := n.fam[inet4]
	if !f.v6 {
		other = n.fam[inet6]
	}
	if other != nil && (p.Both || other.table.BucketLen(p.Target) < routing.K) {
		return wire.Want4 | wire.Want6
	}
	return 0
}

// ConnectivityChanged tells the node that the machine's network changed: everything held against other nodes is
// forgotten, tables are refreshed, and bootstrap starts anew if nobody is known to be there (§14.3).
func (n *Node) ConnectivityChanged() {
	n.turn(func(now time.Time) {
		n.boot.restart()
		n.rejoinPause = 0
		n.forgive(now)
	})
}

// forgive is what a change of connectivity means, and a failed search may (§14.3). The pace of bootstrap goes on.
func (n *Node) forgive(now time.Time) {
	for _, f := range n.families {
		f.table.Reset()
		f.cache.ForgiveAll()
		f.votes = votes{}
		n.agenda.set(&f.maintain, now)
		for _, s := range f.searches {
			s.refilled = time.Time{}
			s.mark()
		}
	}
	poke(n.rearm)
	n.checkStatus(now)
}
