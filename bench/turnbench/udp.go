package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/jirani/jirani/internal/udpio"
)

const (
	window  = 128             // packets under way: no more than coturn's receive buffer holds
	stuck   = 2 * time.Second // after which those under way are given up as lost
	maxLoss = 0.05            // of a round that counts
)

// generator makes the load.
type generator struct {
	packets int
	gro     bool
}

func (g generator) measurements() (out []measurement) {
	for _, dir := range []string{"up", "down"} {
		for _, c := range []struct {
			size, clients, burst int
		}{{172, 1, 16}, {1200, 1, 16}, {172, 50, 1}, {1200, 50, 8}} {
			name := fmt.Sprintf("UDP %s %d B, %d clients, bursts of %d", dir, c.size, c.clients, c.burst)
			out = append(out, measurement{name, "CPU s/M packets",
				func(s *server) (float64, error) { return g.relayUDP(s, dir == "up", c.size, c.clients, c.burst) }})
		}
	}
	return append(out,
		measurement{"ChannelData over TCP up 172 B", "CPU s/M packets", func(s *server) (float64, error) { return g.relayTCP(s, true) }},
		measurement{"ChannelData over TCP down 172 B", "CPU s/M packets", func(s *server) (float64, error) { return g.relayTCP(s, false) }},
		measurement{"RFC 6062 bytes", "CPU s/GB", g.stream},
		measurement{"allocate and give back", "CPU s/1,000", g.churn},
		measurement{"idle allocation, of 10,000", "kB each", g.idle},
		measurement{"base", "MB", func(s *server) (float64, error) { v, err := s.resident(); return v / 1e6, err }},
	)
}

// lane is one client with its peer.
type lane struct {
	client    *client
	near, far *udpio.Conn // the client's and the peer's socket
	server    netip.AddrPort
	relayed   netip.AddrPort
}

// open makes n lanes of UDP clients.
func (g generator) open(s *server, n int) ([]*lane, func(), error) {
	var lanes []*lane
	closeAll := func() {
		for _, l := range lanes {
			for _, conn := range []*udpio.Conn{l.near, l.far} {
				if conn != nil {
					conn.Close()
				}
			}
		}
	}
	cfg := udpio.Config{GRO: g.gro, ReadBuffer: 4 << 20, WriteBuffer: 1 << 20}
	listen := func(in place, at netip.AddrPort) (conn *udpio.Conn, err error) {
		err = in(func() (err error) {
			conn, err = udpio.Listen(context.Background(), at, cfg)
			return err
		})
		return conn, err
	}
	for range n {
		l := &lane{}
		lanes = append(lanes, l)
		var err error
		if l.far, err = listen(s.at.inPeer, netip.AddrPortFrom(s.at.peer, 0)); err != nil {
			return nil, closeAll, err
		}
		if s.addr == "" { // no server: the client sends to the peer, and back
			if l.near, err = listen(s.at.inClient, netip.AddrPortFrom(s.at.client, 0)); err != nil {
				return nil, closeAll, err
			}
			l.server, l.relayed = l.far.LocalAddr(), l.near.LocalAddr()
			continue
		}
		l.server = netip.MustParseAddrPort(s.addr)
		if l.client, err = s.dial("udp"); err != nil {
			return nil, closeAll, err
		}
		if l.relayed, err = l.client.allocate(17); err != nil {
			return nil, closeAll, err
		}
		if err := l.client.bindChannel(l.far.LocalAddr()); err != nil {
			return nil, closeAll, err
		}
		// The batched socket takes the place of the connected one: same port, and nothing comes in between.
		local := l.client.conn.LocalAddr().(*net.UDPAddr).AddrPort()
		l.client.conn.Close()
		if l.near, err = listen(s.at.inClient, local); err != nil {
			return nil, closeAll, err
		}
	}
	return lanes, closeAll, nil
}

// relayUDP pushes packets through and returns the server's CPU seconds per million of them.
func (g generator) relayUDP(s *server, up bool, size, clients, burst int) (float64, error) {
	lanes, closeAll, err := g.open(s, clients)
	defer closeAll()
	if err != nil {
		return 0, err
	}
	if _, _, err := pump(lanes, up, size, burst, g.packets/10); err != nil { // warm
		return 0, err
	}
	var got, lost int
	spent, err := s.spent(func() (err error) {
		got, lost, err = pump(lanes, up, size, burst, g.packets)
		return err
	})
	if err == nil && float64(lost) > maxLoss*float64(g.packets) {
		err = fmt.Errorf("%d of %d packets were lost", lost, g.packets)
	}
	return spent / float64(got) * 1e6, err
}

// pump sends count packets, each lane a burst in turn, never more than the window under way.
func pump(lanes []*lane, up bool, size, burst, count int) (got, lost int, err error) {
	packet := make([]byte, 4+size)
	binary.BigEndian.PutUint16(packet, channel)
	binary.BigEndian.PutUint16(packet[2:], uint16(size))
	out := make([]udpio.Message, burst)
	in := newMessages(64)
	sent, progress := 0, time.Now()
	for sent < count || got+lost < sent {
		for _, l := range lanes {
			if sent < count && sent-got-lost+burst <= window {
				conn, to, b := l.near, l.server, packet
				if !up {
					conn, to, b = l.far, l.relayed, packet[4:]
				}
				for i := range out {
					out[i] = udpio.Message{Buf: b, N: len(b), Addr: to}
				}
				if _, err := conn.WriteBatch(out); err != nil {
					return got, lost, err
				}
				sent += burst
			}
		}
		before := got
		for _, l := range lanes {
			n, err := l.drain(up, in)
			if err != nil {
				return got, lost, err
			}
			got += n
		}
		if now := time.Now(); got != before {
			progress = now
		} else if now.Sub(progress) > stuck {
			lost, progress = sent-got, now
		}
	}
	return got, lost, nil
}

func newMessages(n int) []udpio.Message {
	ms := make([]udpio.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, udpio.MaxDatagram)
	}
	return ms
}

// drain takes what has come through a lane and returns how many datagrams that was.
func (l *lane) drain(up bool, in []udpio.Message) (count int, err error) {
	conn := l.far
	if !up {
		conn = l.near
	}
	for {
		n, err := take(conn, in, func([]byte) { count++ })
		if err != nil || n < len(in) {
			return count, err
		}
	}
}

// take calls use for each datagram of up to len(in) messages that have come, and returns how many messages that was.
func take(conn *udpio.Conn, in []udpio.Message, use func([]byte)) (int, error) {
	n, err := conn.TryReadBatch(in)
	if errors.Is(err, udpio.ErrWouldBlock) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for i := range in[:n] {
		for d := range in[i].Segments {
			use(d)
		}
	}
	return n, nil
}
