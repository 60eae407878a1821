// Package turnserver is the TURN relay: STUN (RFC 8489), TURN (RFC 8656) over UDP, TCP, TLS and DTLS for IPv4 and IPv6, and TCP allocations
// (RFC 6062), with the behaviour that Jami's clients need where the RFCs leave a choice (docs/protocols/turn-usage.md §§3–6, §9).
//
// # A request's way
//
// A message comes from a listener: datagrams through a worker's [relay.Loop] (udp.go), frames of a stream (stream.go), DTLS records
// (dtls.go). Channel data goes straight to the data path (data.go), unless the kernel has relayed it before (kernel.go). A STUN request is
// parsed once into a flat value (request.go), checked for long-term credentials (auth.go) and handed to its method's handler (allocate.go,
// refresh.go, permission.go, channel.go, tcp.go), which walks the RFC's steps in their order and answers with integrity.
//
// # Deliberate choices
//
//   - CreatePermission grants every address and remembers the policy's verdict, which is obeyed when data flows: a Jami client whose
//     request fails for one address loses all its permissions.
//   - A TCP peer without permission is reset, never closed in an orderly way: only a reset makes Jami's ICE try again.
//   - ChannelBind on a TCP allocation gets 403, which Jami's client survives; 437 would end its session.
//   - Every success and every error but 400, 401, 420 and 438 to an authenticated request carries MESSAGE-INTEGRITY.
//   - Nonces are bound neither to a connection nor to a single use, and nothing is remembered about them.
//   - An address of this server is a permitted destination only where a relayed transport address lives: two clients of one relay can
//     talk through it, and nobody reaches the host's own services.
//
// # What it holds for strangers
//
// Before a request is authenticated the server keeps nothing for a datagram client, and for a stream a connection with at most 2 KiB of an
// unfinished message, which is closed when it has no allocation after Limits.UnauthenticatedTimeout.
//
// # Goroutines
//
// Run starts one loop per worker, an acceptor per stream listener, a goroutine per stream connection, and one per relayed transport address
// of stream clients; it returns when all have ended. Lock order: alloc.mu is taken alone or before a relay socket's; Server.mu, the
// pending table's and the kernel path's are leaves.
package turnserver
