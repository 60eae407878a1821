package turnclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
)

const maxQueued = 256 // datagrams that nobody has read yet

// Allocation relays datagrams (RFC 8656). It is a [net.PacketConn] whose local address is the relayed one. WriteTo sends to peers with a
// permission only, in ChannelData where a channel is bound. Reading and writing end with the allocation's error.
type Allocation struct {
	allocation
	queue    chan datagram
	dropped  atomic.Uint64
	reading  deadline
	writing  deadline
	channels channels // guarded by mu
}

var _ net.PacketConn = (*Allocation)(nil)

type datagram struct {
	peer netip.AddrPort
	data []byte
}

// Allocate asks for a relayed transport address for datagrams. An error answer is an *[Error].
func (c *Client) Allocate(ctx context.Context, o Options) (*Allocation, error) {
	a := &Allocation{queue: make(chan datagram, maxQueued)}
	a.channels.init()
	a.reading.init()
	a.writing.init()
	if err := a.allocate(ctx, c, a, protocolUDP, o); err != nil {
		return nil, err
	}
	return a, nil
}

// LocalAddr is the first relayed address, a *net.UDPAddr.
func (a *Allocation) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(a.relayed[0]) }

// Dropped is how many datagrams came when the queue was full.
func (a *Allocation) Dropped() uint64 { return a.dropped.Load() }

// ReadFrom returns the next datagram of a peer, whose address is a *net.UDPAddr. What does not fit in b is lost.
func (a *Allocation) ReadFrom(b []byte) (int, net.Addr, error) {
	d, err := a.receive()
	if err != nil {
		return 0, nil, err
	}
	return copy(b, d.data), net.UDPAddrFromAddrPort(d.peer), nil
}

func (a *Allocation) receive() (datagram, error) {
	expired := a.reading.expired()
	select { // what is there comes first, unless the deadline has passed
	case <-expired:
		return datagram{}, os.ErrDeadlineExceeded
	default:
	}
	select {
	case d := <-a.queue:
		return d, nil
	default:
	}
	select {
	case d := <-a.queue:
		return d, nil
	case <-a.done:
		return datagram{}, a.Err()
	case <-expired:
		return datagram{}, os.ErrDeadlineExceeded
	}
}

// WriteTo sends a datagram to a peer: a *net.UDPAddr, or anything whose String is IP and port.
func (a *Allocation) WriteTo(b []byte, to net.Addr) (int, error) {
	peer, err := addrPort(to)
	switch {
	case err != nil:
		return 0, err
	case a.Err() != nil:
		return 0, a.Err()
	case len(b) > maxPayload:
		return 0, errors.New("turnclient: datagram is too long")
	}
	select {
	case <-a.writing.expired():
		return 0, os.ErrDeadlineExceeded
	default:
	}
	frame, err := a.wrap(b, peer)
	if err == nil {
		err = a.c.send(frame)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// wrap makes the frame that has the server send b to a peer: ChannelData, or a Send indication (RFC 8656 §11.1).
func (a *Allocation) wrap(b []byte, peer netip.AddrPort) ([]byte, error) {
	a.mu.Lock()
	number, bound := a.channels.numbers[peer]
	_, permitted := a.permissions[peer.Addr()]
	a.mu.Unlock()
	switch {
	case bound:
		return appendChannelData(make([]byte, 0, channelHeader+len(b)+3), number, b, a.c.server.Transport.stream()), nil
	case permitted:
		return message(stun.MethodSend, stun.ClassIndication, peerAttr(peer), bytesAttr(stun.AttrData, b...)).Raw, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrNoPermission, peer)
}

// SetDeadline sets both deadlines. A deadline in the past ends calls that wait, a zero one waits for ever.
func (a *Allocation) SetDeadline(t time.Time) error {
	a.reading.set(t)
	a.writing.set(t)
	return nil
}

// SetReadDeadline is for ReadFrom.
func (a *Allocation) SetReadDeadline(t time.Time) error {
	a.reading.set(t)
	return nil
}

// SetWriteDeadline is for WriteTo, which waits for nobody, but for ten seconds at most for a stream to take it.
func (a *Allocation) SetWriteDeadline(t time.Time) error {
	a.writing.set(t)
	return nil
}

// indication takes a Data indication (RFC 8656 §11.4), if it is from somebody with a permission.
func (a *Allocation) indication(m *stun.Message) {
	peer, err := address(m, stun.AttrXORPeerAddress)
	data, missing := m.Get(stun.AttrData)
	a.mu.Lock()
	_, permitted := a.permissions[peer.Addr()]
	_, bound := a.channels.numbers[peer]
	a.mu.Unlock()
	if m.Type.Method != stun.MethodData || err != nil || missing != nil || !permitted && !bound {
		a.c.ignored.Add(1)
		return
	}
	a.deliver(peer, data)
}

func (a *Allocation) channelData(number uint16, data []byte) {
	a.mu.Lock()
	peer, ok := a.channels.peers[number]
	a.mu.Unlock()
	if !ok {
		a.c.ignored.Add(1)
		return
	}
	a.deliver(peer, data)
}

func (a *Allocation) deliver(peer netip.AddrPort, data []byte) {
	select {
	case a.queue <- datagram{peer, append([]byte(nil), data...)}:
	default:
		a.dropped.Add(1)
	}
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ap, fmt.Errorf("turnclient: peer address: %v", err)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
