package turnclient

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
)

const (
	maxUnaccepted = 16               // peer connections bound or being bound that nobody has accepted
	bindTimeout   = 30 * time.Second // RFC 6062 §5.3: then the server gives the peer connection up
)

// TCPAllocation relays connections (RFC 6062). It is a [net.Listener] at the relayed address for peers with a permission, and can have
// the server connect to peers. Each peer connection has a connection of its own to the server; they end with the allocation.
type TCPAllocation struct {
	allocation
	ready      chan net.Conn // bound and not yet accepted
	unaccepted atomic.Int32
	missed     atomic.Uint64
}

var _ net.Listener = (*TCPAllocation)(nil)

// AllocateTCP asks for a relayed transport address for connections. The client's transport has to be TCP or TLS (RFC 6062 §4.1).
func (c *Client) AllocateTCP(ctx context.Context, o Options) (*TCPAllocation, error) {
	if !c.server.Transport.stream() || o.Family == Both {
		return nil, fmt.Errorf("turnclient: no TCP allocations over %v or for both families", c.server.Transport)
	}
	a := &TCPAllocation{ready: make(chan net.Conn, maxUnaccepted)}
	if err := a.allocate(ctx, c, a, protocolTCP, o); err != nil {
		return nil, err
	}
	return a, nil
}

// Addr is the relayed address, a *net.TCPAddr.
func (a *TCPAllocation) Addr() net.Addr { return net.TCPAddrFromAddrPort(a.relayed[0]) }

// Missed is how many peer connections were not accepted: nobody accepted those before them, or binding them failed.
func (a *TCPAllocation) Missed() uint64 { return a.missed.Load() }

// Close gives the allocation back, which resets all its peer connections. They have to be closed all the same.
func (a *TCPAllocation) Close() error {
	err := a.allocation.Close()
	for {
		select {
		case conn := <-a.ready:
			conn.Close()
		default:
			return err
		}
	}
}

// Accept returns the next connection of a peer, whose address is its RemoteAddr. It is a byte pipe with deadlines and, as in package net,
// CloseWrite. What the peer sent before it was accepted has been kept.
func (a *TCPAllocation) Accept() (net.Conn, error) {
	select {
	case conn := <-a.ready:
		a.unaccepted.Add(-1)
		return conn, nil
	case <-a.done:
		return nil, a.Err()
	}
}

// Dial has the server connect to a peer (RFC 6062 §4.3). The server says 447 in an *[Error] when the peer refuses or does not answer, 403
// when it does not do this at all or not for this peer.
func (a *TCPAllocation) Dial(ctx context.Context, peer netip.AddrPort) (net.Conn, error) {
	resp, err := a.c.do(ctx, a.c.roundTrip, stun.MethodConnect, peerAttr(peer))
	if err != nil {
		return nil, err
	}
	id, err := number(resp, stun.AttrConnectionID)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", stun.MethodConnect, err)
	}
	return a.bind(ctx, id, peer)
}

// bind makes a data connection (RFC 6062 §4.4, §4.5).
func (a *TCPAllocation) bind(ctx context.Context, id uint32, peer netip.AddrPort) (net.Conn, error) {
	conn, err := a.c.connectAgain(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := a.c.do(ctx, a.c.over(conn), stun.MethodConnectionBind, uint32Attr(stun.AttrConnectionID, id)); err != nil {
		conn.Close()
		return nil, err
	}
	return &peerConn{conn, a.Addr(), net.TCPAddrFromAddrPort(peer)}, nil
}

// indication takes a ConnectionAttempt (RFC 6062 §4.4). Whether the peer may connect the server has looked at.
func (a *TCPAllocation) indication(m *stun.Message) {
	id, err := number(m, stun.AttrConnectionID)
	peer, missing := address(m, stun.AttrXORPeerAddress)
	if m.Type.Method != stun.MethodConnectionAttempt || err != nil || missing != nil {
		a.c.ignored.Add(1)
		return
	}
	if a.unaccepted.Add(1) > maxUnaccepted || !a.run(func() { a.attempt(id, peer) }) {
		a.unaccepted.Add(-1)
		a.missed.Add(1)
	}
}

func (a *TCPAllocation) attempt(id uint32, peer netip.AddrPort) {
	ctx, cancel := context.WithTimeout(a.life, bindTimeout)
	defer cancel()
	conn, err := a.bind(ctx, id, peer)
	if err != nil {
		a.unaccepted.Add(-1)
		a.missed.Add(1)
		return
	}
	a.ready <- conn // has room for all that are counted
}

// channelData: a TCP allocation has no channels.
func (a *TCPAllocation) channelData(uint16, []byte) { a.c.ignored.Add(1) }

// peerConn is a bound data connection.
type peerConn struct {
	net.Conn
	relayed, peer net.Addr
}

func (c *peerConn) LocalAddr() net.Addr  { return c.relayed }
func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// CloseWrite ends what goes to the peer and leaves the other direction open. Whether the peer sees it at once is the server's matter.
func (c *peerConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("turnclient: %T cannot be closed in one direction", c.Conn)
	}
	return half.CloseWrite()
}
