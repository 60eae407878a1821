package turnclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

const (
	refreshMargin = time.Minute     // before an allocation expires (RFC 8656 §7.3)
	renewPause    = 5 * time.Second // between two refreshes for an ICMP error's sake
)

// Family is an address family of relayed transport addresses.
type Family uint8

// The families to ask for. Both is IPv4 and, if the server has it, IPv6 (ADDITIONAL-ADDRESS-FAMILY); not for TCP allocations, and coturn
// 4.6.1 gives IPv4 only, since it knows a draft's number of that attribute.
const (
	SameFamily Family = iota // the server's address's; what Jami's clients ask for
	IPv4
	IPv6
	Both
)

// Options are wishes for an allocation.
type Options struct {
	Family   Family
	Lifetime time.Duration // asked for, in whole seconds; 0 leaves it to the server, as Jami does
}

// allocation is what UDP and TCP allocations have in common: relayed transport addresses, permissions, and the goroutine that renews.
type allocation struct {
	c          *Client
	relayed    []netip.AddrPort
	mapped     netip.AddrPort
	asked      []attribute     // of a Refresh: the lifetime wanted
	life       context.Context // of what runs in the background; ended by end
	end        context.CancelFunc
	background sync.WaitGroup
	done       chan struct{} // closed when users are told that it has ended
	closed     chan struct{} // closed when Close has done its work
	closeErr   error         // of Close
	changed    chan struct{} // takes one: there is something new to renew

	mu          sync.Mutex // guards what follows
	ended       bool
	err         error   // why done is closed
	duties      []*duty // the first is the refresh
	permissions map[netip.Addr]struct{}
	permitting  bool // the permissions are among the duties
}

// duty is something to be renewed. renew returns how long what it has got lasts until it should be renewed.
type duty struct {
	due   time.Time
	renew func(context.Context) (time.Duration, error)
}

// allocate is RFC 8656 §7 and RFC 6062 §4.1. r is what a is part of.
func (a *allocation) allocate(ctx context.Context, c *Client, r receiver, protocol byte, o Options) error {
	a.c, a.done, a.closed, a.changed = c, make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	a.permissions = make(map[netip.Addr]struct{})
	if err := c.take(); err != nil {
		return err
	}
	lifetime, err := a.ask(ctx, protocol, o)
	if err != nil {
		c.free()
		return err
	}
	a.life, a.end = context.WithCancel(context.WithoutCancel(ctx))
	a.duties = []*duty{{time.Now().Add(c.refreshAfter(lifetime)), a.refresh}}
	err = c.attach(r) // from here on the reader and Close of the client know it
	if err == nil && !a.run(a.maintain) {
		err = net.ErrClosed
	}
	if err != nil {
		a.end()
		c.free()
	}
	return err
}

func (a *allocation) ask(ctx context.Context, protocol byte, o Options) (time.Duration, error) {
	resp, err := a.c.do(ctx, a.c.roundTrip, stun.MethodAllocate, a.wishes(protocol, o)...)
	if err != nil {
		return 0, err
	}
	return a.granted(resp)
}

// wishes are the attributes of the Allocate request.
func (a *allocation) wishes(protocol byte, o Options) []attribute {
	attrs := []attribute{bytesAttr(stun.AttrRequestedTransport, protocol, 0, 0, 0)}
	if o.Lifetime >= time.Second {
		a.asked = []attribute{lifetimeAttr(o.Lifetime)}
		attrs = append(attrs, a.asked...)
	}
	server, _ := netip.ParseAddrPort(a.c.ServerAddr().String())
	overIPv6 := server.IsValid() && familyOf(server.Addr()) == familyIPv6
	switch { // IPv4 is what a server takes for meant when nothing is said (RFC 8656 §7.1)
	case o.Family == IPv6 || o.Family == SameFamily && overIPv6:
		attrs = append(attrs, bytesAttr(stun.AttrRequestedAddressFamily, familyIPv6, 0, 0, 0))
	case o.Family == IPv4 && overIPv6:
		attrs = append(attrs, bytesAttr(stun.AttrRequestedAddressFamily, familyIPv4, 0, 0, 0))
	case o.Family == Both:
		attrs = append(attrs, bytesAttr(attrAdditionalAddressFamily, familyIPv6, 0, 0, 0))
	}
	return attrs
}

// granted reads a success (RFC 8656 §7.3). Relayed and mapped address and a lifetime have to be there.
func (a *allocation) granted(resp *stun.Message) (lifetime time.Duration, err error) {
	if a.relayed, err = addresses(resp, stun.AttrXORRelayedAddress); err != nil {
		return 0, err
	}
	if a.mapped, err = address(resp, stun.AttrXORMappedAddress); err != nil {
		return 0, err
	}
	return lifetimeOf(resp)
}

func lifetimeOf(resp *stun.Message) (time.Duration, error) {
	seconds, err := number(resp, stun.AttrLifetime)
	if err == nil && seconds == 0 {
		err = fmt.Errorf("%w: lifetime 0", ErrMalformed)
	}
	return time.Duration(seconds) * time.Second, err
}

// Relayed are the relayed transport addresses: one, or one of each family.
func (a *allocation) Relayed() []netip.AddrPort { return append([]netip.AddrPort(nil), a.relayed...) }

// Mapped is the address under which the server sees the client.
func (a *allocation) Mapped() netip.AddrPort { return a.mapped }

// Done is closed when the allocation has ended, by Close or because it is lost.
func (a *allocation) Done() <-chan struct{} { return a.done }

// Err says why Done is closed: net.ErrClosed after Close, otherwise what went wrong, such as an *Error with code 437 if the server has
// started anew. It is nil while the allocation lives.
func (a *allocation) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Close gives the allocation back to the server (Refresh with lifetime 0), for which it waits two seconds at most, and returns when what
// runs for it has ended. The error says that the server was not told.
func (a *allocation) Close() error {
	a.mu.Lock()
	first := !a.ended
	a.ended = true // nothing new begins
	a.mu.Unlock()
	if first {
		a.closeErr = a.giveBack()
		close(a.closed)
	}
	<-a.closed
	return a.closeErr
}

func (a *allocation) giveBack() error {
	a.end()
	a.background.Wait()
	defer a.c.free()
	lost := a.Err() != nil
	a.fail(net.ErrClosed)
	if lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.life), closePatience)
	defer cancel()
	_, err := a.c.do(ctx, a.c.roundTrip, stun.MethodRefresh, lifetimeAttr(0))
	return err
}

// fail ends the allocation for its users. The first reason counts.
func (a *allocation) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
		close(a.done)
	}
}

// run starts f in the background, unless the allocation is being closed.
func (a *allocation) run(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.background.Go(f)
	}
	return !a.ended
}

func (c *Client) refreshAfter(lifetime time.Duration) time.Duration {
	after := max(lifetime-refreshMargin, lifetime/2)
	if c.cfg.KeepAlive > 0 {
		after = min(after, c.cfg.KeepAlive)
	}
	return after
}

// refresh is RFC 8656 §8.
func (a *allocation) refresh(ctx context.Context) (time.Duration, error) {
	resp, err := a.c.do(ctx, a.c.roundTrip, stun.MethodRefresh, a.asked...)
	if err != nil {
		return 0, err
	}
	lifetime, err := lifetimeOf(resp)
	return a.c.refreshAfter(lifetime), err
}

// fatal reports whether the allocation is lost: the server does not answer, does not know it, or no longer knows this user. Other error
// answers concern what was asked for.
func fatal(err error) bool {
	var e *Error
	return err != nil && (!errors.As(err, &e) ||
		hasCode(e, stun.CodeAllocMismatch, stun.CodeUnauthorized, stun.CodeStaleNonce, stun.CodeWrongCredentials))
}

// maintain is the goroutine that renews, until the allocation ends.
func (a *allocation) maintain() {
	timer := time.NewTimer(time.Until(a.next()))
	defer timer.Stop()
	var doubted time.Time
	for {
		select {
		case <-a.life.Done():
			return
		case <-a.c.done:
			a.fail(a.c.err)
			return
		case <-a.c.doubt:
			if now := time.Now(); now.Sub(doubted) > renewPause {
				a.hurry(now)
				doubted = now
			}
		case <-a.changed:
		case <-timer.C:
		}
		if err := a.renew(time.Now()); err != nil {
			if a.life.Err() == nil {
				a.fail(err)
			}
			return
		}
		timer.Reset(time.Until(a.next()))
	}
}

// next is when the first duty is due.
func (a *allocation) next() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.duties[0].due
	for _, d := range a.duties {
		if d.due.Before(next) {
			next = d.due
		}
	}
	return next
}

// hurry makes the refresh due, which is the first duty.
func (a *allocation) hurry(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.duties[0].due = now
}

// renew does what is due. What the server refuses to renew is given up, the allocation itself if it is that.
func (a *allocation) renew(now time.Time) error {
	for _, d := range a.dueBy(now) {
		after, err := d.renew(a.life)
		a.mu.Lock()
		d.due = now.Add(after)
		refresh := d == a.duties[0]
		if err != nil {
			a.duties = slices.DeleteFunc(a.duties, func(other *duty) bool { return other == d && !refresh })
		}
		a.mu.Unlock()
		if fatal(err) || err != nil && refresh {
			return err
		}
	}
	return nil
}

func (a *allocation) dueBy(now time.Time) (due []*duty) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.duties {
		if !d.due.After(now) {
			due = append(due, d)
		}
	}
	return due
}

// assume adds a duty.
func (a *allocation) assume(d *duty) {
	a.mu.Lock()
	a.duties = append(a.duties, d)
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}
