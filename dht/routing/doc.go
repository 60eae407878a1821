// Package routing holds what a DHT node knows about other nodes: their records, the two routing tables (one for each
// address family) and the decisions about whom to ask next. It is pure data: it does no input or output, starts
// nothing, reads no clock; the caller passes the time and sends the packets the package asks for.
//
// # Records
//
// A [Cache] keeps one [Node] for each node id of its family, shared by the table, searches and listeners
// (docs/protocols/opendht.md §9.1). Whoever keeps a pointer to a node for longer than one call holds it ([Node.Hold],
// [Node.Release]); records nobody holds live in a bounded least-recently-heard list. A node's address is the one it was
// first seen at; a packet that shows the same id at another address moves the record only when it is no longer good
// (§19.3 requirement 23), so an id cannot be hijacked by a single forged packet.
//
// # Quality (§9.2)
//
// A node is good when it is not expired, replied to us within 120 minutes and was heard within 10. It is dubious when
// neither good nor expired. Only good nodes are handed out to others, and not while they leave a request unanswered.
//
// # Buckets (§9.3)
//
// A [Table] is an ordered list of buckets, each with the ids that share its first depth bits, holding up to [K] nodes
// and one cached candidate. Only the bucket of our own id is split (in bootstrap mode every bucket above depth 6).
//
// None of the types is safe for concurrent use.
package routing
