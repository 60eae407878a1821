package allocation

import (
	"errors"
	"net/netip"
	"time"
)

const (
	// MinChannel and MaxChannel bound the numbers a client may bind (RFC 8656 §12).
	MinChannel = 0x4000
	MaxChannel = 0x4FFF
	// MaxLegacyChannel is the last number of RFC 5766 §11, which coturn's own client still uses.
	MaxLegacyChannel = 0x7FFF
	// ChannelTTL is the life of a binding (RFC 8656 §12: 10 minutes).
	ChannelTTL = 10 * time.Minute
	// MaxChannels bounds the bindings of one allocation.
	MaxChannels = 256
)

// ErrChannelTaken says that the number stands for another peer or the peer has another number (RFC 8656 §12.2: 400).
var ErrChannelTaken = errors.New("allocation: channel or peer is bound otherwise")

// ErrTooManyChannels says that the allocation has MaxChannels live bindings (508).
var ErrTooManyChannels = errors.New("allocation: too many channels")

// Channel is one binding of a channel number to a peer. T is what the data path keeps with it.
type Channel[T any] struct {
	Number    uint16
	Peer      netip.AddrPort
	ExpiresAt time.Time
	Path      T
}

// Channels are the bindings of one allocation. The zero value is empty.
type Channels[T any] struct {
	list []*Channel[T]
}

// Bind makes or refreshes a binding. An expired binding does not stand in the way of a new one.
func (c *Channels[T]) Bind(number uint16, peer netip.AddrPort, now time.Time) (*Channel[T], error) {
	live := c.list[:0]
	for _, ch := range c.list {
		if ch.Number == number && ch.Peer == peer {
			ch.ExpiresAt = now.Add(ChannelTTL)
			return ch, nil
		}
	}
	for _, ch := range c.list {
		if !now.After(ch.ExpiresAt) {
			live = append(live, ch)
		}
	}
	clear(c.list[len(live):])
	c.list = live
	for _, ch := range c.list {
		if ch.Number == number || ch.Peer == peer {
			return nil, ErrChannelTaken
		}
	}
	if len(c.list) == MaxChannels {
		return nil, ErrTooManyChannels
	}
	ch := &Channel[T]{Number: number, Peer: peer, ExpiresAt: now.Add(ChannelTTL)}
	c.list = append(c.list, ch)
	return ch, nil
}

// ByNumber returns the live binding of a number, or nil.
func (c *Channels[T]) ByNumber(number uint16, now time.Time) *Channel[T] {
	for _, ch := range c.list {
		if ch.Number == number && !now.After(ch.ExpiresAt) {
			return ch
		}
	}
	return nil
}

// ByPeer returns the live binding of a peer, or nil.
func (c *Channels[T]) ByPeer(peer netip.AddrPort, now time.Time) *Channel[T] {
	for _, ch := range c.list {
		if ch.Peer == peer && !now.After(ch.ExpiresAt) {
			return ch
		}
	}
	return nil
}

// All returns the bindings that are held, expired ones included.
func (c *Channels[T]) All() []*Channel[T] { return c.list }

// Len returns how many bindings are held, expired ones included.
func (c *Channels[T]) Len() int { return len(c.list) }
