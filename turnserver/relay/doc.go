// Package relay is the data path of the TURN server: it moves bytes between clients and peers and knows nothing of STUN.
//
// # Datagrams
//
// A [Loop] watches any number of UDP sockets with one epoll descriptor, so that an idle relayed transport address costs a descriptor and a
// table entry, not a goroutine with its buffers. In each round it takes what waits on the sockets that are ready into one shared batch of
// receive slots ([In], recvmmsg(2) with UDP_GRO), hands the packets to the socket's [Reader], and then sends everything the readers added to
// the shared [Out] (sendmmsg(2) with UDP_SEGMENT).
//
// Nothing is copied in user space: a packet that leaves is a list of vectors, such as four bytes of header and a piece of the receive slot.
// Packets of one size for one destination become one train that the kernel cuts again, so that a burst of 64 packets crosses the process
// with two system calls. Where a device cannot cut (EIO, EINVAL), the train is sent as single packets. No step allocates.
//
// The package internal/udpio moves datagrams in batches too. This one exists beside it because a relay needs what a general package had
// better not have: one wait for thousands of sockets, receive slots shared between them, and scatter-gather trains.
//
// # Streams
//
// [Pipe] joins two connections. Between two TCP connections the bytes stay in the kernel (splice(2), through package net).
//
// # Concurrency
//
// A [Socket] may be used and closed from any goroutine. [In] and [Out] belong to one goroutine at a time: the loop's, or whoever took them
// from the pools.
package relay
