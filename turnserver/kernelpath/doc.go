// Package kernelpath relays channel data between UDP clients and their peers inside the kernel: a BPF program at the ingress of the host's
// Ethernet interfaces (TCX, Linux 6.6) turns ChannelData (RFC 8656 §12.4) into plain UDP and back. It is an option of the data path, never
// the only one: whatever it does not know, or finds irregular in the least, goes on to the sockets of user space as if it were not there.
//
// # A packet's way
//
// The blocks of program_linux.go, in order. "Up" is from the client, "down" is to it.
//
//	classify  IPv4 for this host, untagged; no options, no fragment; UDP. Otherwise: pass.
//	find      the flow of (source, destination, ports, channel number), then of (source, destination, ports). None: pass.
//	admit     the lease, the flow's deadline, and no hold. Otherwise: pass.
//	inspect   one datagram (no GSO), the three lengths agree, TTL above 1, the ChannelData length is the payload's, the result fits the
//	          MTU of its way. Otherwise: pass, and hold the flow.
//	move      the payload by four bytes: towards the UDP header (up), or away from it, with a ChannelData header in between (down).
//	rewrite   addresses, ports, lengths; TTL less one (RFC 8656 §14); don't-fragment, as the sockets of this relay set it; checksums.
//	send      count the data, and give the packet to the neighbour subsystem of the outgoing interface (bpf_redirect_neigh).
//
// The UDP header stays where it is in memory while the payload moves, so that a checksum that is still to be completed by a network card
// (as packets of virtual machines and containers have it) is completed in the right place. The UDP checksum is updated by differences; a
// packet without one stays without. A packet that a helper gives up on halfway, for want of memory, is dropped.
//
// A hold of holdTime lets the packets that follow an irregular one take the same, slower way, so that they do not overtake it.
//
// # Maps
//
//	flows    hash: flowKey → flowRule, written by user space only
//	traffic  array of slot, mapped into user space: packets and bytes of each flow, and its hold
//	lease    array of one uint64, mapped too: the time until which anything at all may be relayed
//	scratch  a page per processor for the payload that moves
//
// Times are nanoseconds of CLOCK_MONOTONIC.
//
// # What keeps it closed
//
// A flow exists for a channel that user space has found permitted, and ends in the kernel, without anybody's doing, when the first of
// allocation, channel binding and permission does. All flows end when user space has not renewed the lease for some seconds. The
// program leaves its interfaces with the last descriptor of its process, however that ends.
//
// What the kernel relays here does not meet the host's packet filter (nftables, iptables), its connection tracking or its IPsec policies,
// which come after the ingress. Operators are told.
//
// # Privilege
//
// CAP_BPF to load, CAP_NET_ADMIN to attach, both for as long as the process lives: interfaces come and go.
package kernelpath
