package turnclient

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

const (
	firstChannel = 0x4000 // RFC 8656 §12: to 0x4FFF
	maxChannels  = 256
)

// channels are the channel bindings of an allocation. Numbers are given out in order and not used twice, so that a binding that has lapsed
// cannot be taken for another's (RFC 8656 §12.1 forbids it for five minutes).
type channels struct {
	next    uint16
	numbers map[netip.AddrPort]uint16
	peers   map[uint16]netip.AddrPort
}

func (c *channels) init() {
	c.next, c.numbers, c.peers = firstChannel, make(map[netip.AddrPort]uint16), make(map[uint16]netip.AddrPort)
}

// BindChannel has datagrams to and from a peer travel with four bytes of overhead instead of some forty (RFC 8656 §12), and is a permission
// for the peer too. The binding is renewed as long as the allocation lives; if the server ends it, datagrams go the longer way again,
// for which the peer needs a permission.
func (a *Allocation) BindChannel(ctx context.Context, peer netip.AddrPort) error {
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	a.mu.Lock()
	number := a.channels.next
	_, bound := a.channels.numbers[peer]
	if !bound && number < firstChannel+maxChannels {
		a.channels.next++
		a.channels.peers[number] = peer // data may come right behind the answer
	}
	a.mu.Unlock()
	switch {
	case bound:
		return nil
	case number >= firstChannel+maxChannels:
		return fmt.Errorf("%w channels", ErrTooMany)
	}
	bind := func(ctx context.Context) (time.Duration, error) { return a.bind(ctx, number, peer) }
	after, err := bind(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.channels.numbers[peer] = number
	a.mu.Unlock()
	a.assume(&duty{time.Now().Add(after), bind})
	return nil
}

// bind makes or renews a binding, or forgets it.
func (a *Allocation) bind(ctx context.Context, number uint16, peer netip.AddrPort) (time.Duration, error) {
	_, err := a.c.do(ctx, a.c.roundTrip, stun.MethodChannelBind, channelAttr(number), peerAttr(peer))
	if err != nil {
		a.mu.Lock()
		delete(a.channels.numbers, peer)
		delete(a.channels.peers, number)
		a.mu.Unlock()
	}
	return renewAfter, err // the permission that comes with it ends before the channel does
}
