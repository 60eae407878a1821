package kernelpath

import (
	"net/netip"
	"unsafe"
)

// flowKey names one direction of a channel by what its packets carry. Addresses and ports are in network order.
type flowKey struct {
	Source, Dest         [4]byte
	SourcePort, DestPort [2]byte
	Channel              [2]byte // of packets from the client; 0 for those of the peer
	_                    [2]byte
}

// flowRule is what becomes of the packets of a flow.
type flowRule struct {
	Deadline             uint64  // after which the flow is not there
	Source, Dest         [4]byte // of the packet that leaves
	SourcePort, DestPort [2]byte // of the packet that leaves
	Channel              [2]byte // number to put before the data, to the client; 0 for packets to the peer
	_                    [2]byte
	Interface            uint32 // by which the packet leaves
	MTU                  uint32 // bytes of the largest IP packet on that way
	Slot                 uint32 // index into traffic
	_                    uint32
}

// slot counts the data of one flow. The kernel writes it.
type slot struct {
	packets, bytes uint64
	hold           uint64 // until which packets of the flow pass to user space
}

const (
	flowKeySize  = int(unsafe.Sizeof(flowKey{}))
	flowRuleSize = int(unsafe.Sizeof(flowRule{}))
	slotSize     = int(unsafe.Sizeof(slot{}))
)

// Channel is a channel binding of a client that came by UDP, with the relayed transport address its data leaves from. All are IPv4.
type Channel struct {
	Client, Server netip.AddrPort // the client's 5-tuple
	Relayed, Peer  netip.AddrPort // Relayed as this host has it, behind a NAT not as peers see it
	Number         uint16
}

// up is the flow from the client to the peer, down the other one. Their rules lack everything that does not follow from the channel.
func (c Channel) up() (flowKey, flowRule) {
	k, r := join(c.Client, c.Server, c.Relayed, c.Peer)
	k.Channel = number(c.Number)
	return k, r
}

func (c Channel) down() (flowKey, flowRule) {
	k, r := join(c.Peer, c.Relayed, c.Server, c.Client)
	r.Channel = number(c.Number)
	return k, r
}

func join(from, at, by, to netip.AddrPort) (flowKey, flowRule) {
	return flowKey{Source: from.Addr().As4(), Dest: at.Addr().As4(), SourcePort: number(from.Port()), DestPort: number(at.Port())},
		flowRule{Source: by.Addr().As4(), Dest: to.Addr().As4(), SourcePort: number(by.Port()), DestPort: number(to.Port())}
}

// number writes n in network order.
func number(n uint16) [2]byte { return [2]byte{byte(n >> 8), byte(n)} }
