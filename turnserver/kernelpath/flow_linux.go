package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	// ErrFull says that the kernel relays as much as it may. The channel is to be relayed in user space.
	ErrFull = errors.New("kernelpath: no room for another flow")
	// ErrNoWay says that client or peer are not reached through an Ethernet interface with the program. The channel is to be relayed in
	// user space.
	ErrNoWay = errors.New("kernelpath: no way through an interface of this path")
)

// Traffic is data that was relayed in one direction.
type Traffic struct{ Packets, Bytes uint64 }

// Flow is a channel that the kernel relays. Its methods are not safe for concurrent use.
type Flow struct {
	path     *Path
	up, down leg
}

// leg is one direction of it.
type leg struct {
	key  flowKey
	rule flowRule
	seen Traffic // what the slot's counters were when they were last read
}

// Carry has the kernel relay a channel until the given time.
func (p *Path) Carry(c Channel, until time.Time) (*Flow, error) {
	f := &Flow{path: p}
	f.up.key, f.up.rule = c.up()
	f.down.key, f.down.rule = c.down()
	for _, l := range f.legs() {
		if err := p.route(&l.rule); err != nil {
			return nil, err
		}
	}
	if !p.takeSlots(f) {
		return nil, ErrFull
	}
	for _, l := range f.legs() {
		l.rule.Deadline = p.deadline(until)
		l.seen = p.read(l.rule.Slot)
		if err := p.put(l); err != nil {
			f.Drop()
			return nil, err
		}
	}
	return f, nil
}

func (f *Flow) legs() [2]*leg { return [2]*leg{&f.up, &f.down} }

// Until changes the time at which the kernel stops relaying by itself.
func (f *Flow) Until(t time.Time) error {
	deadline := f.path.deadline(t)
	for _, l := range f.legs() {
		if l.rule.Deadline == deadline {
			continue
		}
		l.rule.Deadline = deadline
		if err := f.path.put(l); err != nil {
			return err
		}
	}
	return nil
}

// Reroute looks up the ways to client and peer again. After an error the flow is to be dropped.
func (f *Flow) Reroute() error {
	for _, l := range f.legs() {
		rule := l.rule
		if err := f.path.route(&rule); err != nil {
			return err
		}
		if rule == l.rule {
			continue
		}
		l.rule = rule
		if err := f.path.put(l); err != nil {
			return err
		}
	}
	return nil
}

// Take returns what was relayed since the last call.
func (f *Flow) Take() (up, down Traffic) { return f.path.since(&f.up), f.path.since(&f.down) }

// Drop ends the flow and returns what was relayed since the last Take. No method may be called after it.
func (f *Flow) Drop() (up, down Traffic) {
	for _, l := range f.legs() {
		_ = f.path.flows.Delete(l.key) // it may not have been put
	}
	up, down = f.Take()
	f.path.giveSlots(f)
	return up, down
}

func (p *Path) put(l *leg) error {
	if err := p.flows.Put(l.key, l.rule); err != nil {
		return fmt.Errorf("kernelpath: put a flow: %w", err)
	}
	return nil
}

func (p *Path) takeSlots(f *Flow) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 2 {
		return false
	}
	f.up.rule.Slot, f.down.rule.Slot = p.free[0], p.free[1]
	p.free = p.free[2:]
	return true
}

func (p *Path) giveSlots(f *Flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, f.up.rule.Slot, f.down.rule.Slot)
}

// Flows is how many flows there are, two for each channel.
func (p *Path) Flows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maxFlows - len(p.free)
}

func (p *Path) read(i uint32) Traffic {
	s := &p.slots[i]
	return Traffic{atomic.LoadUint64(&s.packets), atomic.LoadUint64(&s.bytes)}
}

func (p *Path) since(l *leg) Traffic {
	now := p.read(l.rule.Slot)
	was := l.seen
	l.seen = now
	return Traffic{now.Packets - was.Packets, now.Bytes - was.Bytes}
}

// route finds the interface and the MTU of the way that a rule's packets take. The kernel looks the next hop up for each packet; what is
// kept here is what it cannot find in time: the interface, and what routers have said about sizes.
func (p *Path) route(r *flowRule) error {
	routes, err := p.routes.RouteGetWithOptions(r.Dest[:], &netlink.RouteGetOptions{SrcAddr: r.Source[:]})
	if err != nil || len(routes) != 1 || routes[0].Type != unix.RTN_UNICAST || routes[0].Encap != nil {
		return fmt.Errorf("%w: to %v", ErrNoWay, netip.AddrFrom4(r.Dest))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.devices[routes[0].LinkIndex]
	if d == nil || d.tap == nil {
		return fmt.Errorf("%w: to %v", ErrNoWay, netip.AddrFrom4(r.Dest))
	}
	r.Interface, r.MTU = uint32(routes[0].LinkIndex), uint32(d.mtu)
	if mtu := routes[0].MTU; mtu > 0 {
		r.MTU = min(r.MTU, uint32(mtu))
	}
	return nil
}
