// Package dhtnode is a running node of the OpenDHT network: it answers others, keeps values and listeners for them, and
// looks up, stores and listens for its owner. It speaks to OpenDHT 2.4.12 to 4.3 (docs/protocols/opendht.md).
//
// # Life
//
// [New] checks the configuration and starts nothing. [Node.Run] works until its context is done and returns when every
// goroutine it began has ended. The sockets are the caller's ([Deps]); Run stops reading from them but the caller closes
// them, after Run has returned. Operations may be called before Run, concurrently and from any goroutine; those that
// wait take a context and return its error when it ends first. Whoever calls an operation while the node is still
// connecting waits for the connection (§10.5). Callbacks MUST NOT block and MAY call the node.
//
// # Shape
//
// One mutex owns tables, searches, storage and the agenda of timers. A reader of a socket takes a batch of datagrams,
// parses them outside the mutex, and then handles the whole batch in one turn under it; what the turn wants to send
// collects in the reader's own buffer and leaves in one system call after the turn. Signatures of stored values are
// checked by a bounded pool outside the mutex (§19.3 requirement 26). Nothing is kept per value or listener but its
// record: no goroutine, no timer.
//
// # Addresses
//
// The node runs IPv4 and IPv6 at once when it has sockets of both: two tables and searches, one id, one storage (§14.5).
// Replies are matched by source address and transaction number, updates only accepted from the node listened on, and a
// good node does not move to another address because of one packet (§19.3 requirements 23 and 24).
//
// # Trust
//
// Nothing received is believed: tokens prove addresses, signatures prove owners, everything else is an opinion. Large
// answers go only to addresses that showed a token or answered us (§19.3 requirement 28).
package dhtnode
