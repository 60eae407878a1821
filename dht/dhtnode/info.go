package dhtnode

import (
	"encoding/json"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// Info is what OpenDHT calls NodeInfo: a node's state in the form its tools and REST proxies exchange
// (docs/protocols/opendht.md §15.2). As JSON it is what a proxy answers; AppendMsgpack gives the other form.
type Info struct {
	ID            dht.InfoHash // of the identity's key; zero without identity
	NodeID        dht.InfoHash
	IPv4, IPv6    FamilyStats
	Ops           int // operations in progress: puts and listens of this node
	Values, Bytes int // stored for others
	LocalValues   int // stored for this node
	LocalBytes    int
	Port4, Port6  uint16 // bound; 0 without the family
}

// Info returns the node's current state. It waits for the running turn.
func (n *Node) Info() Info {
	s := n.Stats()
	i := Info{NodeID: n.self, IPv4: s.IPv4, IPv6: s.IPv6, Ops: s.LocalPuts + s.LocalListens,
		Values: s.Storage.Values, Bytes: int(s.Storage.Bytes),
		LocalValues: s.Storage.LocalValues, LocalBytes: int(s.Storage.LocalBytes)}
	if n.cfg.Identity != nil {
		i.ID = n.cfg.Identity.Key.Public().ID()
	}
	for _, a := range n.LocalAddrs() {
		port := &i.Port4
		if familyOf(a.Addr()) == inet6 {
			port = &i.Port6
		}
		if *port == 0 {
			*port = a.Port()
		}
	}
	return i
}

type familyJSON struct {
	Good     int `json:"good"`
	Dubious  int `json:"dubious"`
	Incoming int `json:"incoming"`
	Depth    int `json:"table_depth,omitempty"`
	Size     int `json:"network_size_estimation,omitempty"`
}

func (f FamilyStats) json() familyJSON {
	j := familyJSON{Good: f.Good, Dubious: f.Dubious, Incoming: f.Incoming}
	if f.Depth > 1 {
		j.Depth, j.Size = f.Depth, f.NetworkSize
	}
	return j
}

// MarshalJSON writes the members upstream does, and no others.
func (i Info) MarshalJSON() ([]byte, error) {
	j := struct {
		ID          *dht.InfoHash `json:"id,omitempty"`
		NodeID      dht.InfoHash  `json:"node_id"`
		IPv4        familyJSON    `json:"ipv4"`
		IPv6        familyJSON    `json:"ipv6"`
		Ops         int           `json:"ops"`
		Values      int           `json:"storage_values"`
		Bytes       int           `json:"storage_size"`
		LocalValues int           `json:"local_storage_values"`
		LocalBytes  int           `json:"local_storage_size"`
		Port4       uint16        `json:"port_ipv4"`
		Port6       uint16        `json:"port_ipv6"`
	}{nil, i.NodeID, i.IPv4.json(), i.IPv6.json(), i.Ops, i.Values, i.Bytes, i.LocalValues, i.LocalBytes, i.Port4, i.Port6}
	if !i.ID.IsZero() {
		j.ID = &i.ID
	}
	return json.Marshal(j)
}

// AppendMsgpack appends the node's state as the map upstream packs.
func (i Info) AppendMsgpack(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 11)
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "id"), i.ID[:])
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "node_id"), i.NodeID[:])
	dst = i.IPv4.appendMsgpack(msgpack.AppendStr(dst, "ipv4"))
	dst = i.IPv6.appendMsgpack(msgpack.AppendStr(dst, "ipv6"))
	return appendInts(dst,
		field{"ongoing_ops", i.Ops}, field{"storage_values", i.Values}, field{"storage_size", i.Bytes},
		field{"local_storage_values", i.LocalValues}, field{"local_storage_size", i.LocalBytes},
		field{"bound4", int(i.Port4)}, field{"bound6", int(i.Port6)})
}

func (f FamilyStats) appendMsgpack(dst []byte) []byte {
	return appendInts(msgpack.AppendMapHeader(dst, 7),
		field{"good_nodes", f.Good}, field{"dubious_nodes", f.Dubious}, field{"cached_nodes", f.Candidates},
		field{"incoming_nodes", f.Incoming}, field{"table_depth", f.Depth}, field{"searches", f.Searches},
		field{"node_cache_size", f.Cached})
}

type field struct {
	key   string
	value int
}

func appendInts(dst []byte, fields ...field) []byte {
	for _, f := range fields {
		dst = msgpack.AppendUint(msgpack.AppendStr(dst, f.key), uint64(f.value))
	}
	return dst
}
