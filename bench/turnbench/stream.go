package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

const (
	streamBytes = 1 << 30
	cycles      = 3000
	idleCount   = 10_000
)

// stream carries bytes from a client to a peer through a TCP allocation.
func (g generator) stream(s *server) (float64, error) {
	c, err := s.dial("tcp")
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	relayed, err := c.allocate(6)
	if err != nil {
		return 0, err
	}
	if err := c.withPeer(stun.MethodCreatePermission, netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		return 0, err
	}
	peer, err := net.Dial("tcp", relayed.String())
	if err != nil {
		return 0, err
	}
	defer peer.Close()
	attempt, err := c.read()
	if err != nil {
		return 0, err
	}
	id, err := attempt.Get(stun.AttrConnectionID)
	if err != nil {
		return 0, err
	}
	d, err := s.dial("tcp")
	if err != nil {
		return 0, err
	}
	defer d.conn.Close()
	d.login(c.realm, c.nonce)
	if _, err := d.ask(stun.MethodConnectionBind, attribute{stun.AttrConnectionID, id}); err != nil {
		return 0, err
	}
	spent, err := s.spent(func() error { return transfer(d.conn, peer, streamBytes) })
	return spent / streamBytes * 1e9, err
}

// transfer writes n bytes into one end and reads them from the other.
func transfer(in, out net.Conn, n int64) error {
	failed := make(chan error, 1)
	go func() { // ends with the bytes or the connection
		_, err := io.CopyN(in, zeros{}, n)
		failed <- err
	}()
	buf := make([]byte, 256<<10)
	for left := n; left > 0; {
		got, err := out.Read(buf)
		if err != nil {
			return err
		}
		left -= int64(got)
	}
	return <-failed
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// relayTCP pushes ChannelData through a client's TCP connection.
func (g generator) relayTCP(s *server, up bool) (float64, error) {
	c, err := s.dial("tcp")
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	relayed, err := c.allocate(17)
	if err != nil {
		return 0, err
	}
	peer, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer peer.Close()
	_ = peer.SetReadBuffer(4 << 20)
	if err := c.bindChannel(peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		return 0, err
	}
	count := min(g.packets, 200_000)
	var got int
	spent, err := s.spent(func() (err error) {
		if up {
			got, err = upTCP(c.conn, peer, count)
		} else {
			got, err = downTCP(c.conn, peer, relayed, count)
		}
		return err
	})
	return spent / float64(got) * 1e6, err
}

const tcpBurst = 64 // packets written at once, and waited for

func upTCP(conn net.Conn, peer *net.UDPConn, count int) (got int, err error) {
	frame := make([]byte, 4+172)
	binary.BigEndian.PutUint16(frame, channel)
	binary.BigEndian.PutUint16(frame[2:], 172)
	buf := make([]byte, 2048)
	for got < count {
		for range tcpBurst { // as clients do: one write per packet
			if _, err := conn.Write(frame); err != nil {
				return got, err
			}
		}
		_ = peer.SetReadDeadline(time.Now().Add(patience))
		for range tcpBurst {
			if _, err := peer.Read(buf); err != nil {
				return got, err
			}
			got++
		}
	}
	return got, nil
}

func downTCP(conn net.Conn, peer *net.UDPConn, relayed netip.AddrPort, count int) (got int, err error) {
	packet, frame := make([]byte, 172), make([]byte, (4+172)*tcpBurst)
	for got < count {
		for range tcpBurst {
			if _, err := peer.WriteToUDPAddrPort(packet, relayed); err != nil {
				return got, err
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(conn, frame); err != nil {
			return got, err
		}
		got += tcpBurst
	}
	return got, nil
}

// churn allocates and gives back, each time from a new port, first request without credentials as clients do.
func (g generator) churn(s *server) (float64, error) {
	spent, err := s.spent(func() error {
		for done, tries := 0, 0; done < cycles; tries++ {
			err := g.cycle(s)
			// coturn remembers 5-tuples that have ended: a port that comes again so soon gets 437.
			if errors.Is(err, stun.ErrAttributeNotFound) && tries < 2*cycles {
				continue
			}
			if err != nil {
				return err
			}
			done++
		}
		return nil
	})
	return spent / cycles * 1000, err
}

func (g generator) cycle(s *server) error {
	c, err := s.dial("udp")
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if _, err = c.allocate(17); err != nil {
		return err
	}
	_, err = c.ask(stun.MethodRefresh, attribute{stun.AttrLifetime, make([]byte, 4)})
	return err
}

// idle returns the memory that an allocation without traffic costs, in kilobytes.
func (g generator) idle(s *server) (float64, error) {
	before, err := s.resident()
	if err != nil {
		return 0, err
	}
	var clients []*client
	defer func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}()
	for range idleCount {
		c, err := s.dial("udp")
		if err != nil {
			return 0, err
		}
		clients = append(clients, c)
		if _, err := c.allocate(17); err != nil {
			return 0, err
		}
		if err := c.withPeer(stun.MethodCreatePermission, netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
			return 0, err
		}
	}
	after, err := s.resident()
	if err == nil && after <= before {
		err = errors.New("no memory used")
	}
	return (after - before) / idleCount / 1e3, err
}
