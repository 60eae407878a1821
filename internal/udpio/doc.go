// Package udpio moves UDP datagrams in batches: many per system call, without an allocation per datagram.
//
// A [Conn] is one bound, unconnected UDP socket. [Conn.ReadBatch] blocks until at least one datagram is there and then
// takes all that wait, up to the length of the slice it was given; [Conn.WriteBatch] hands a slice of datagrams to the
// kernel. On Linux these are recvmmsg(2) and sendmmsg(2) on a non-blocking descriptor that the runtime's poller watches,
// so that deadlines and Close work as for package net, an idle reader costs no thread, and nothing spins. On other
// systems the same calls move one datagram at a time through package net and the optional features below are absent;
// [Conn.Features] tells which ones a socket has.
//
// # Addresses
//
// Addresses are netip values and never IPv4-mapped: a dual-stack socket reports 192.0.2.1, not ::ffff:192.0.2.1, and
// takes it back in the same form. The zone of a link-local address is the interface index in decimal.
//
// # Answering from the address addressed
//
// A wildcard socket of a host with several addresses lets the kernel choose the source of an answer, which need not be
// the address the client spoke to; clients and NATs drop such answers. With [Config.PacketInfo] a datagram read carries
// its destination in [Message.Local], and a datagram written with a valid Local leaves from there (RFC 3542 §6, ip(7)
// IP_PKTINFO). Answering with the Message that was read therefore answers from the right address.
//
// # Segments (GRO and GSO)
//
// With [Config.GRO] the kernel may join datagrams of one flow: Buf then holds several of them, each SegmentSize bytes
// but the last, which may be shorter. [Message.Segments] walks them. A reader of such a socket SHOULD give buffers of
// [MaxDatagram] bytes. In the other direction a Message with SegmentSize > 0 is cut by the kernel into datagrams of that
// size, up to [MaxSegments] of them and 65,507 bytes in all; where the kernel or the device cannot, WriteBatch cuts it
// itself. WriteBatch also joins neighbours of the slice by itself when they go the same way and have the same size, the
// last of such a train maybe less: answers to one busy client and the pieces of a large value cost one walk through the
// network stack together. What arrives is the same.
//
// # Several sockets on one port
//
// [ListenGroup] opens several sockets on one address (SO_REUSEPORT); the kernel spreads flows over them by the hash of
// addresses and ports, so that each flow stays with one reader.
//
// # Concurrency
//
// All methods are safe for concurrent use, but calls of ReadBatch on one Conn run one after another, and so do calls of
// WriteBatch; a group is the way to more than one. A blocked call holds no memory of this package.
package udpio
