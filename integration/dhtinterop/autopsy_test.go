package dhtinterop

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// autopsy asks every living member directly, past all searches, what it holds at key and whom it names as closest, the dead among them.
// It is what a failed get is explained with.
func (c *churn) autopsy(key string) string {
	conn, err := udpio.Listen(c.t.Context(), loopback, udpio.Config{})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	names := make(map[string]string)
	for _, m := range c.dead {
		names[m.id] = "†" + m.name
	}
	for _, m := range c.members {
		names[m.id] = m.name
	}
	var s strings.Builder
	for _, m := range c.members {
		p, err := askDirectly(conn, netip.MustParseAddrPort(m.addr), c.network, dht.HashText(key))
		if err != nil {
			fmt.Fprintf(&s, "  %s: %v\n", m.name, err)
			continue
		}
		var named []string
		nodes, _ := p.AppendNodes(nil)
		for _, a := range nodes {
			named = append(named, names[a.ID.String()])
		}
		good, _ := m.good()
		fmt.Fprintf(&s, "  %s: %d values, %d good, names %s\n", m.name, len(p.Values), good, strings.Join(named, ", "))
	}
	return s.String()
}

// askDirectly sends one get, up to three times. The asker says that it is a client, so that nobody takes it for a member.
func askDirectly(conn *udpio.Conn, to netip.AddrPort, network uint32, key dht.InfoHash) (*wire.Packet, error) {
	q := wire.Packet{Kind: wire.Get, TID: 7, ID: dht.RandomInfoHash(), InfoHash: key, Network: network, Client: true}
	in := []udpio.Message{{Buf: make([]byte, udpio.MaxDatagram)}}
	for range 3 {
		if err := conn.WriteTo(q.Append(nil), to); err != nil {
			return nil, err
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			if _, err := conn.ReadBatch(in); err != nil {
				break
			}
			var p wire.Packet
			if in[0].Addr == to && p.Parse(in[0].Payload()) == nil && p.Kind == wire.Reply && p.TID == q.TID {
				return &p, nil
			}
		}
	}
	return nil, fmt.Errorf("no answer")
}
