package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Port and groups of discovery (docs/protocols/opendht.md §16).
const (
	Port   = 8888
	group4 = "239.192.0.1"
	group6 = "ff08::101"
)

// maxAnswers bounds the answers to queries, per second: a network of many hundred devices that all start at once is
// served within seconds, and a forger gains nothing worth having.
const maxAnswers = 50

// interfacePoll is how often the machine's interfaces are looked at. A cable plugged in is noticed this soon.
const interfacePoll = 15 * time.Second

// Publication makes a service's object; v6 tells for which family, since a port may differ. nil means: not there.
type Publication func(v6 bool) []byte

// Found is one service in an announcement heard. Object aliases a buffer and is valid during the callback only.
type Found struct {
	Service string
	Object  []byte
	From    netip.AddrPort // where the announcement came from; IPv6 with its zone
}

// Discovery is the presence on the local network. Its methods are safe for concurrent use.
type Discovery struct {
	log     *slog.Logger
	nets    []*network
	refresh chan struct{} // one slot

	mu      sync.Mutex
	publish []publication
	want    map[string]func(Found)
	answers answerBudget
}

type publication struct {
	name string
	make Publication
}

// New opens the sockets; both families if the machine has both. It starts nothing; call Run, which also closes them.
func New(log *slog.Logger) (*Discovery, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{log: log, refresh: make(chan struct{}, 1), want: make(map[string]func(Found))}
	four, err4 := listen4()
	six, err6 := listen6()
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("discovery: %w", errors.Join(err4, err6))
	}
	for _, n := range []*network{four, six} {
		if n != nil {
			d.nets = append(d.nets, n)
		}
	}
	return d, nil
}

// Publish announces a service from now on, in place of what was published under its name.
func (d *Discovery) Publish(service string, object Publication) {
	d.mu.Lock()
	d.publish = append(d.without(service), publication{service, object})
	d.mu.Unlock()
	d.Refresh()
}

// Unpublish stops announcing a service. Nothing on the network says so; listeners forget by themselves.
func (d *Discovery) Unpublish(service string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.publish = d.without(service)
}

func (d *Discovery) without(service string) []publication {
	return slices.DeleteFunc(slices.Clone(d.publish), func(p publication) bool { return p.name == service })
}

// Discover calls found for each announcement of the service, our own included, from a goroutine of Run; nil ends it.
func (d *Discovery) Discover(service string, found func(Found)) {
	d.mu.Lock()
	if d.want[service] = found; found == nil {
		delete(d.want, service)
	}
	d.mu.Unlock()
	if found != nil {
		d.Refresh()
	}
}

// Refresh asks and announces again, as after a change of the network. It does not block.
func (d *Discovery) Refresh() {
	select {
	case d.refresh <- struct{}{}:
	default:
	}
}

// Run takes part until ctx is done, closes the sockets and returns when all its goroutines have ended.
func (d *Discovery) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, n := range d.nets {
		wg.Go(func() { d.read(n) }) // ends when the socket is closed
	}
	d.speak(ctx)
	for _, n := range d.nets {
		n.conn.Close()
	}
	wg.Wait()
	return nil
}

// speak asks and announces at the times that the package comment names.
func (d *Discovery) speak(ctx context.Context) {
	var rounds schedule
	var known string
	poll := time.NewTicker(interfacePoll)
	defer poll.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-d.refresh:
			rounds = schedule{}
		case <-poll.C:
			if joined := d.join(); joined == known {
				continue
			}
			rounds = schedule{}
		}
		known = d.join()
		d.round()
		if wait, more := rounds.next(); more {
			again.Reset(wait)
		} else {
			again.Stop()
		}
	}
}

// schedule counts the rounds since the last change.
type schedule struct{ done int }

// next returns how long to wait for the next round: 10, 20 and 40 s, then no more.
func (s *schedule) next() (time.Duration, bool) {
	delays := [...]time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second}
	if s.done >= len(delays) {
		return 0, false
	}
	s.done++
	return delays[s.done-1], true
}

// join enters the groups on interfaces that came up and returns a name for the set of them.
func (d *Discovery) join() string {
	var all strings.Builder
	for _, n := range d.nets {
		n.join(&all)
	}
	return all.String()
}

func (d *Discovery) round() {
	for _, n := range d.nets {
		if d.discovering() {
			n.sendGroup(AppendQuery(nil))
		}
		if packet := d.announcement(n.v6); packet != nil {
			n.sendGroup(packet)
		}
	}
}

func (d *Discovery) discovering() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.want) > 0
}

// announcement is the packet of everything we publish, nil if that is nothing.
func (d *Discovery) announcement(v6 bool) []byte {
	d.mu.Lock()
	publish := d.publish
	d.mu.Unlock()
	var services []Service
	for _, p := range publish {
		if object := p.make(v6); object != nil {
			services = append(services, Service{p.name, object})
		}
	}
	if len(services) == 0 {
		return nil
	}
	return AppendAnnouncement(nil, services)
}

func (d *Discovery) read(n *network) {
	buf := make([]byte, maxPacket+1)
	for {
		k, from, err := n.conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			d.log.Debug("discovery read", "err", err)
			continue
		}
		d.handle(n, buf[:k], from)
	}
}

func (d *Discovery) handle(n *network, packet []byte, from netip.AddrPort) {
	isQuery, services, err := Parse(packet)
	if err != nil {
		return // a stranger's
	}
	if isQuery {
		d.answer(n, from)
		return
	}
	for _, s := range services {
		d.mu.Lock()
		found := d.want[s.Name]
		d.mu.Unlock()
		if found != nil {
			found(Found{s.Name, s.Object, from})
		}
	}
}

func (d *Discovery) answer(n *network, to netip.AddrPort) {
	d.mu.Lock()
	ok := d.answers.take(time.Now())
	d.mu.Unlock()
	if !ok || !n.near(to.Addr()) {
		return
	}
	if packet := d.announcement(n.v6); packet != nil {
		n.conn.WriteToUDPAddrPort(packet, to) // lost is lost, as on the wire
	}
}

// answerBudget counts answers in the running second.
type answerBudget struct {
	second int64
	used   int
}

func (b *answerBudget) take(now time.Time) bool {
	if s := now.Unix(); s != b.second {
		*b = answerBudget{second: s}
	}
	b.used++
	return b.used <= maxAnswers
}
