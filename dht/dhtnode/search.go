package dhtnode

import (
	"slices"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/routing"
	"github.com/jirani/jirani/dht/wire"
)

// docs/protocols/opendht.md §8, §10.1.
const (
	searchNodes  = 14 // usable nodes kept in a search
	searchAsked  = 4  // requests in flight to nodes that answer in time
	listenNodes  = 4  // nodes listened on
	maxDeadInRow = 25 // that many of the closest nodes dead end a search
	syncValid    = 10 * time.Minute
	refillAfter  = 10 * time.Minute
	searchIdle   = 62 * time.Minute
	backoffFirst = time.Second // after a refused token, doubling
	backoffMax   = 5 * time.Minute
	rejoinFirst  = time.Minute // between two failed searches that count as lost connectivity, doubling while nobody answers
	rejoinMax    = bootstrapMax
)

// search looks for the nodes closest to one key in one family and runs on them all gets, puts and listens at that key.
type search struct {
	n        *Node
	f        *family
	key      dht.InfoHash
	nodes    []*searchNode // by distance
	gets     []*getRun
	finds    []*findOp
	timer    timer
	marked   bool // waits in n.dirty
	explore  bool // find the closest nodes although nobody asked
	refilled time.Time
	idle     time.Time // since when nothing is to do; zero while busy
	asked    int       // finds and gets in flight to nodes that are not late
}

// searchNode is a node in a search.
type searchNode struct {
	s       *search
	node    *routing.Node // held
	token   []byte        // nil = none, or refused
	synced  time.Time     // last answer that brought a token
	busy    int           // finds and gets in flight
	late    bool          // did not answer the first send: a candidate that blocks nobody
	pause   time.Time     // do not ask before, after a refusal
	backoff time.Duration
	gets    map[*getRun]*getState
	puts    map[*put]*putState
	listens map[*watch]*listenState
	broken  bool // answered a find or get with an error: of no use to this search
	gone    bool // no longer in the search
}

// searchFor returns the search for key, starting it.
func (n *Node) searchFor(f *family, key dht.InfoHash, now time.Time) *search {
	if s := f.searches[key]; s != nil {
		s.mark()
		return s
	}
	s := &search{n: n, f: f, key: key}
	s.timer.fire = func(time.Time) { s.mark() }
	f.searches[key] = s
	s.mark()
	return s
}

// mark has the search stepped before the turn ends.
func (s *search) mark() {
	if !s.marked {
		s.marked = true
		s.n.dirty = append(s.n.dirty, s)
	}
}

// markSearches has all searches stepped.
func (n *Node) markSearches() {
	for _, f := range n.families {
		for _, s := range f.searches {
			s.mark()
		}
	}
}

func (n *Node) wakeSearches(f *family) {
	for _, s := range f.searches {
		s.refilled = time.Time{}
		s.mark()
	}
}

// offerSearches proposes a node that just proved to be there to all searches.
func (n *Node) offerSearches(f *family, node *routing.Node, now time.Time) {
	if node.Client {
		return
	}
	for _, s := range f.searches {
		if s.insert(node) {
			s.mark()
		}
	}
}

// insert adds a node if it is among the closest.
func (s *search) insert(node *routing.Node) bool {
	if node.Client || node.ID == s.n.self {
		return false
	}
	i, found := slices.BinarySearchFunc(s.nodes, node, func(a *searchNode, b *routing.Node) int {
		return s.key.CloserTo(a.node.ID, b.ID)
	})
	if found {
		if sn := s.nodes[i]; sn.node != node { // the record was evicted and made anew
			s.leave(sn)
			s.nodes[i] = s.newNode(node)
			return true
		}
		return false
	}
	usable := 0
	for _, sn := range s.nodes[:i] {
		if sn.usable() {
			usable++
		}
	}
	if usable >= searchNodes {
		return false
	}
	s.nodes = slices.Insert(s.nodes, i, s.newNode(node))
	return true
}

func (s *search) newNode(node *routing.Node) *searchNode {
	node.Hold()
	return &searchNode{s: s, node: node}
}

// leave ends a node's part in the search.
func (s *search) leave(sn *searchNode) {
	sn.gone = true
	for w, l := range sn.listens {
		l.close()
		delete(sn.listens, w)
	}
	sn.gets, sn.puts = nil, nil
	if !sn.late {
		s.asked -= sn.busy
	}
	sn.node.Release()
}

// trim keeps searchNodes usable nodes, and dead ones only while there are few others.
func (s *search) trim() {
	usable, live := 0, 0
	for _, sn := range s.nodes {
		if !sn.node.Expired {
			live++
		}
	}
	s.nodes = slices.DeleteFunc(s.nodes, func(sn *searchNode) bool {
		drop := usable >= searchNodes || sn.node.Expired && live >= routing.K
		if sn.usable() && !drop {
			usable++
		}
		if drop {
			s.leave(sn)
		}
		return drop
	})
}

func (sn *searchNode) usable() bool { return !sn.node.Expired && !sn.late && !sn.broken }

func (sn *searchNode) isSynced(now time.Time) bool {
	return !sn.node.Expired && sn.token != nil && now.Sub(sn.synced) < syncValid
}

// refill takes nodes from the cache when there are too few.
func (s *search) refill(now time.Time) {
	usable := 0
	for _, sn := range s.nodes {
		if sn.usable() {
			usable++
		}
	}
	if usable >= searchNodes || !s.refilled.IsZero() && now.Sub(s.refilled) < refillAfter {
		return
	}
	s.refilled = now
	for _, node := range s.f.cache.Closest(nil, s.key, searchNodes) {
		s.insert(node)
	}
}

// step moves all operations of the search on.
func (s *search) step(now time.Time) {
	if s.f.searches[s.key] != s {
		return
	}
	if s.settled() {
		s.rest(now)
		return
	}
	s.idle = time.Time{}
	s.refill(now)
	s.expireNodes()
	s.trim()
	if s.failed() {
		s.fail(now)
	} else {
		s.ask(now)
		ready, full := s.ready(now)
		s.stepPuts(ready, full, now)
		s.stepListens(ready, now)
		s.finishGets(now)
		if full {
			s.finishFinds(now)
			s.explore = false
		}
	}
	s.n.agenda.set(&s.timer, s.nextStep(now))
}

// settled reports whether nothing is to do.
func (s *search) settled() bool {
	return len(s.gets) == 0 && !s.needsSync()
}

// needsSync reports whether tokens of the closest nodes are wanted.
func (s *search) needsSync() bool {
	return s.explore || len(s.finds) > 0 || len(s.n.puts[s.key]) > 0 || len(s.n.watches[s.key]) > 0
}

// rest ends a search that was idle for long (§8). Until then it is offered who comes, and must not hold on to all who went.
func (s *search) rest(now time.Time) {
	s.trim()
	if s.idle.IsZero() {
		s.idle = now
	}
	if now.Sub(s.idle) >= searchIdle || len(s.f.searches) > s.n.cfg.Searches {
		s.remove()
		return
	}
	s.n.agenda.set(&s.timer, s.idle.Add(searchIdle))
}

func (s *search) remove() {
	delete(s.f.searches, s.key)
	s.n.agenda.stop(&s.timer)
	for _, sn := range s.nodes {
		s.leave(sn)
	}
	s.nodes = nil
}

// expireNodes lets nodes that died give up what they did for us.
func (s *search) expireNodes() {
	for _, sn := range s.nodes {
		if !sn.node.Expired {
			continue
		}
		sn.token, sn.puts = nil, nil
		for w, l := range sn.listens {
			l.close()
			delete(sn.listens, w)
		}
	}
}

// failed reports whether the closest nodes are all dead (§10.1).
func (s *search) failed() bool {
	for _, sn := range s.nodes[:min(len(s.nodes), maxDeadInRow)] {
		if !sn.node.Expired {
			return false
		}
	}
	return len(s.nodes) > 0 || !s.n.waiting(s.n.now)
}

// fail ends what cannot wait. Permanent puts and listens stay.
func (s *search) fail(now time.Time) {
	hadNodes := len(s.nodes) > 0
	s.explore = false
	for _, g := range slices.Clone(s.gets) {
		g.end(now)
	}
	for _, p := range slices.Clone(s.n.puts[s.key]) {
		p.familyDone(s.f, now)
	}
	s.finishFinds(now)
	n := s.n
	if hadNodes && !n.cfg.PublicStable && now.Sub(n.rejoined) >= n.rejoinPause {
		n.rejoinPause = min(max(2*n.rejoinPause, rejoinFirst), rejoinMax)
		if n.answeredAt.After(n.rejoined) {
			n.rejoinPause = rejoinFirst
		}
		n.rejoined = now
		n.forgive(now)
	}
}

// ask sends gets and finds to the closest nodes that may be asked (§10.1).
func (s *search) ask(now time.Time) {
	usable := 0
	sync := s.needsSync()
	for _, sn := range s.nodes {
		if sn.node.Expired || sn.broken {
			continue
		}
		if usable >= searchNodes || s.asked >= searchAsked {
			return
		}
		if sn.usable() {
			usable++
		}
		if now.Before(sn.pause) {
			continue
		}
		if usable <= routing.K && sn.askGets(now) {
			continue
		}
		if sync && sn.busy == 0 && !sn.isSynced(now) {
			sn.askNodes(now)
		}
	}
}

// askNodes sends a find, for the token and for closer nodes.
func (sn *searchNode) askNodes(now time.Time) {
	s := sn.s
	p := &wire.Packet{Kind: wire.Find, InfoHash: s.key, Want: s.n.want()}
	sn.send(p, now, func(answer, time.Time) {})
}

// send asks the node a find or a get; what the answer says about nodes and tokens is used before done is called.
func (sn *searchNode) send(p *wire.Packet, now time.Time, done func(answer, time.Time)) {
	s := sn.s
	sn.busy++
	if !sn.late {
		s.asked++
	}
	r := s.n.request(s.f, sn.node, p, now, func(a answer, now time.Time) {
		if sn.gone {
			return
		}
		sn.busy--
		if !sn.late {
			s.asked--
		}
		if a.p != nil {
			sn.punctual()
		}
		if a.ok() {
			sn.answered(a, now)
		} else {
			sn.broken = a.p != nil
		}
		done(a, now)
		s.mark()
	})
	r.late = func(now time.Time) { sn.overdue() }
}

// overdue makes the node a candidate (§10.1).
func (sn *searchNode) overdue() {
	if !sn.late && !sn.gone {
		sn.late = true
		sn.s.asked -= sn.busy
		sn.s.mark()
	}
}

func (sn *searchNode) punctual() {
	if sn.late {
		sn.late = false
		sn.s.asked += sn.busy
	}
}

// answered takes token and nodes from an answer to a find or get. One without a token is blacklisted (§13.2).
func (sn *searchNode) answered(a answer, now time.Time) {
	n, s := sn.s.n, sn.s
	if len(a.p.Token) == 0 {
		n.black.add(sn.node.Addr, now)
		n.expire(s.f, sn.node, now)
		return
	}
	sn.setToken(a.p.Token)
	sn.synced = now
	for _, node := range n.learn(a, now) {
		f := n.fam[familyOf(node.Addr.Addr())]
		if t := f.searches[s.key]; t != nil && t.insert(node) && t != s {
			t.mark()
		}
	}
}

func (sn *searchNode) setToken(token []byte) {
	if !slices.Equal(sn.token, token) {
		sn.token = slices.Clone(token)
	}
}

// refused handles a 401: the token is void, and the node is left alone for a while (§3.3, §19.3 requirement 21).
func (sn *searchNode) refused(now time.Time) {
	sn.node.AuthError()
	sn.token = nil
	sn.backoff = min(max(2*sn.backoff, backoffFirst), backoffMax)
	sn.pause = now.Add(sn.backoff)
}

// accepted ends a row of refusals.
func (sn *searchNode) accepted() {
	sn.node.Accepted()
	sn.backoff = 0
}

// ready returns the nodes that puts and listens may use: the first 8 when they are synced, or, since 2.6, all but the
// last of the first ones that are (§10.1). full tells that it is the former.
func (s *search) ready(now time.Time) (nodes []*searchNode, full bool) {
	usable := 0
	for _, sn := range s.nodes {
		if !sn.usable() {
			continue
		}
		usable++
		if !sn.isSynced(now) {
			break
		}
		if nodes = append(nodes, sn); len(nodes) == routing.K {
			return nodes, true
		}
	}
	if len(nodes) == usable && usable > 0 {
		return nodes, true
	}
	return nodes[:max(len(nodes)-1, 0)], false
}

// nextStep returns when the search must be looked at again without anything happening. What is overdue already waits for
// an answer, which brings the next step.
func (s *search) nextStep(now time.Time) time.Time {
	at := now.Add(searchIdle)
	soon := func(t time.Time) {
		if t.After(now) && t.Before(at) {
			at = t
		}
	}
	sync := s.needsSync()
	usable := 0
	for _, sn := range s.nodes {
		if sn.node.Expired {
			continue
		}
		soon(sn.pause)
		if sn.usable() {
			usable++
		}
		if sync && sn.token != nil {
			soon(sn.synced.Add(syncValid))
		}
		sn.nextPut(soon)
		sn.nextListen(soon)
	}
	if usable < searchNodes {
		soon(s.refilled.Add(refillAfter))
	}
	return at
}
