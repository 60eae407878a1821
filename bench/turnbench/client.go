package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

const (
	channel  = 0x4000
	patience = 20 * time.Second
)

// client is one TURN client, as little of one as the measurements need.
type client struct {
	conn   net.Conn
	stream bool
	realm  string
	nonce  []byte
	key    stun.MessageIntegrity
}

// dial opens a client of the server.
func (s *server) dial(network string) (*client, error) {
	c := &client{stream: network == "tcp"}
	return c, s.at.inClient(func() (err error) {
		c.conn, err = net.Dial(network, s.addr)
		return err
	})
}

type attribute struct {
	t stun.AttrType
	v []byte
}

func message(method stun.Method, attrs ...attribute) *stun.Message {
	m := stun.New()
	_ = m.NewTransactionID()
	m.Type = stun.NewType(method, stun.ClassRequest)
	m.WriteHeader()
	for _, a := range attrs {
		m.Add(a.t, a.v)
	}
	return m
}

// read returns the next STUN message.
func (c *client) read() (*stun.Message, error) {
	b := make([]byte, 2048)
	if c.stream {
		if _, err := io.ReadFull(c.conn, b[:20]); err != nil {
			return nil, err
		}
		n := 20 + int(binary.BigEndian.Uint16(b[2:]))
		if _, err := io.ReadFull(c.conn, b[20:n]); err != nil {
			return nil, err
		}
		b = b[:n]
	} else {
		n, err := c.conn.Read(b)
		if err != nil {
			return nil, err
		}
		b = b[:n]
	}
	m := &stun.Message{Raw: b}
	return m, m.Decode()
}

func (c *client) do(m *stun.Message) (*stun.Message, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	defer c.conn.SetDeadline(time.Time{})
	if _, err := c.conn.Write(m.Raw); err != nil {
		return nil, err
	}
	for {
		resp, err := c.read()
		if err != nil || resp.TransactionID == m.TransactionID {
			return resp, err
		}
	}
}

// ask sends a request with credentials; the first one fetches realm and nonce.
func (c *client) ask(method stun.Method, attrs ...attribute) (*stun.Message, error) {
	if c.nonce == nil {
		resp, err := c.do(message(method, attrs...))
		if err != nil {
			return nil, err
		}
		var realm stun.Realm
		var nonce stun.Nonce
		if err := resp.Parse(&realm, &nonce); err != nil {
			return nil, err
		}
		c.login(realm.String(), nonce)
	}
	m := message(method, attrs...)
	m.Add(stun.AttrUsername, []byte("ring"))
	m.Add(stun.AttrRealm, []byte(c.realm))
	m.Add(stun.AttrNonce, c.nonce)
	_ = c.key.AddTo(m)
	resp, err := c.do(m)
	if err != nil {
		return nil, err
	}
	if resp.Type.Class != stun.ClassSuccessResponse {
		var code stun.ErrorCodeAttribute
		_ = code.GetFrom(resp)
		return nil, fmt.Errorf("%v: %d", method, code.Code)
	}
	return resp, nil
}

func (c *client) login(realm string, nonce []byte) {
	c.realm, c.nonce, c.key = realm, append([]byte(nil), nonce...), stun.NewLongTermIntegrity("ring", realm, "ring")
}

// allocate asks for a relayed transport address of protocol 17 (UDP) or 6 (TCP).
func (c *client) allocate(protocol byte) (netip.AddrPort, error) {
	resp, err := c.ask(stun.MethodAllocate, attribute{stun.AttrRequestedTransport, []byte{protocol, 0, 0, 0}})
	if err != nil {
		return netip.AddrPort{}, err
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(resp, stun.AttrXORRelayedAddress); err != nil {
		return netip.AddrPort{}, err
	}
	ip, ok := netip.AddrFromSlice(relayed.IP)
	if !ok {
		return netip.AddrPort{}, errors.New("no relayed address")
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port)), nil
}

// withPeer is ask with an XOR-PEER-ADDRESS.
func (c *client) withPeer(method stun.Method, peer netip.AddrPort, attrs ...attribute) error {
	m := stun.New()
	_ = m.NewTransactionID()
	a := stun.XORMappedAddress{IP: peer.Addr().AsSlice(), Port: int(peer.Port())}
	// IPv4: the transaction ID has no part in the value, so that it fits any message.
	if err := a.AddToAs(m, stun.AttrXORPeerAddress); err != nil {
		return err
	}
	v, err := m.Get(stun.AttrXORPeerAddress)
	if err != nil {
		return err
	}
	_, err = c.ask(method, append(attrs, attribute{stun.AttrXORPeerAddress, v})...)
	return err
}

func (c *client) bindChannel(peer netip.AddrPort) error {
	return c.withPeer(stun.MethodChannelBind, peer, attribute{stun.AttrChannelNumber, []byte{channel >> 8, channel & 0xff, 0, 0}})
}
