// Package turnclient is a client of one STUN and TURN server: Binding requests (RFC 8489), allocations for UDP (RFC 8656) and for TCP
// (RFC 6062), over UDP, TCP, TLS and DTLS. It does what docs/protocols/turn-usage.md says a Jami peer asks of its relay.
//
//	server, _ := turnclient.ParseURI("turn:relay.example.org:3478?transport=tcp")
//	client, err := turnclient.Dial(ctx, server, turnclient.Config{Username: "ring", Password: "ring"})
//	relay, err := client.AllocateTCP(ctx, turnclient.Options{})
//	err = relay.CreatePermission(ctx, peers...)
//	conn, err := relay.Accept() // a peer has connected to relay.Relayed()
//
// # A connection and its messages
//
// A [Client] is one connection to one server, and so has one allocation at a time, since a server knows an allocation by its 5-tuple. What
// travels are STUN messages and ChannelData: one a datagram over UDP and DTLS, one after the other on streams, where ChannelData is padded
// to four bytes (RFC 8656 §12.5). Anything else ends a stream, and is ignored in a datagram.
//
// A request is repeated on datagrams and waited for on streams as RFC 8489 §6.2 says; see [Timing]. An answer counts if its transaction ID,
// method and, where there is one, fingerprint are those of the request, and if it has the integrity of a request that had one. Error
// answers that a server cannot or need not sign are taken without: 400, 401, 420, 438 and 441.
//
// Long-term credentials (RFC 8489 §9.2) with MD5 keys: the first request goes without, realm and nonce come with the server's 401, a stale
// nonce is replaced, at most three times in a row. The realm is the server's: nobody has to know it beforehand. A data connection of
// RFC 6062 uses the nonce of its control connection.
//
// # What runs, and what ends it
//
// [Dial] starts one goroutine that reads, an allocation one that renews it: allocation, permissions and channels each are asked for again
// before the server forgets them (RFC 8656 §7.3, §9, §12). TCP allocations have one more per peer connection that is being bound. Close
// of an allocation gives it back to the server and returns when its goroutines have ended; Close of a client closes its allocation first.
// The context of a call ends that call and nothing else.
//
// A connection that breaks, a server that no longer answers or no longer knows the allocation: its Done is closed, Err says why, and
// whoever waits on it gets the same error. On datagrams an ICMP error is taken as a hint only (anybody can forge one): the client then
// asks the server at once instead of waiting for the next renewal.
//
// # Bounds
//
// An allocation holds at most 256 permissions and 256 channels, queues 256 datagrams that nobody has read (later ones are dropped and
// counted, as a socket does) and binds 16 peer connections that nobody has accepted (later ones are left to the server, which resets them).
//
// All methods may be called from several goroutines at once.
package turnclient
