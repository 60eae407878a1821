package bootstrap

import (
	"net/netip"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/discovery"
)

// joinLAN announces the node on the local networks and takes up the nodes heard there. Both are repeated when the node
// has lost everybody (docs/protocols/opendht.md §16).
func (s *Server) joinLAN() {
	s.lan.Publish(discovery.ServiceDHT, s.announcement)
	s.lan.Discover(discovery.ServiceDHT, s.heardOnLAN)
	s.node.OnStatus(func(v4, v6 dhtnode.Status) {
		if v4 == dhtnode.Disconnected && v6 == dhtnode.Disconnected {
			s.lan.Refresh()
		}
	})
}

// announcement tells the port of the first socket of the family that others on the network can reach.
func (s *Server) announcement(v6 bool) []byte {
	for _, a := range s.Addrs() {
		if a.Addr().Is6() == v6 && !a.Addr().IsLoopback() {
			return discovery.DHT{ID: s.node.ID(), Port: a.Port(), Network: s.cfg.Network}.Append(nil)
		}
	}
	return nil
}

func (s *Server) heardOnLAN(f discovery.Found) {
	d, err := discovery.ParseDHT(f.Object)
	if err != nil || d.Network != s.cfg.Network || d.ID == s.node.ID() {
		return
	}
	s.metrics.lanFound.Add(1)
	s.node.AddNode(dht.NodeAddr{ID: d.ID, Addr: netip.AddrPortFrom(f.From.Addr().Unmap(), d.Port)})
}
