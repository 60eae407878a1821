package wire

import (
	"net/netip"

	"github.com/jirani/jirani/dht"
)

// Kind tells messages apart.
type Kind uint8

// The kinds. Those from Ping to Update are requests.
const (
	Invalid Kind = iota
	Ping
	Find
	Get
	Put
	Refresh
	Listen
	Update
	Reply
	Error
	Push // unsolicited news for a version 0 listener (§11.4)
	Part // piece of a value (§4)
)

// Kinds is the number of kinds, for tables indexed by Kind.
const Kinds = int(Part) + 1

var kindNames = [Kinds]string{
	"invalid", "ping", "find", "get", "put", "refresh", "listen", "update", "reply", "error", "push", "part",
}

// String is the request's wire name, or the kind in lower case.
func (k Kind) String() string {
	if int(k) < Kinds {
		return kindNames[k]
	}
	return kindNames[Invalid]
}

// IsRequest reports whether k wants an answer and counts against rate limits.
func (k Kind) IsRequest() bool { return k >= Ping && k <= Update }

// requestKind finds a request by its wire name.
func requestKind(name []byte) Kind {
	switch string(name) {
	case "ping":
		return Ping
	case "find":
		return Find
	case "get":
		return Get
	case "put":
		return Put
	case "refresh":
		return Refresh
	case "listen":
		return Listen
	case "update":
		return Update
	}
	return Invalid
}

// Agent is what we send as "v": that of OpenDHT since 2.6. Nobody acts on it.
const Agent = "o2"

// ListenVersion is the "ve" of listens and updates (§2.1).
const ListenVersion = 1

// Error codes (§3.3).
const (
	CodeNonAuthoritative = 203 // key missing, or value id 0
	CodeUnauthorized     = 401 // write token does not match
	CodeNotFound         = 404 // refresh on an unknown key
)

// Error texts of OpenDHT 4.3. Requesters must not match on them.
const (
	TextGetNoHash      = "Get_values with no info_hash"
	TextPutNoHash      = "Put with no info_hash"
	TextListenNoHash   = "Listen with no info_hash"
	TextPutInvalidID   = "Put with invalid ID"
	TextPutToken       = "Put with incorrect token"
	TextListenToken    = "Listen with incorrect token"
	TextUnknownStorage = "Access operation for unknown storage"
)

// Want is a set of address families asked for with "w".
type Want uint8

// The families; WantNone is an array without any we know.
const (
	Want4    Want = 1 << iota // 2 on the wire
	Want6                     // 10 on the wire
	WantNone                  // "w" is there but names no known family
)

// ValueRef is an element of "values": a serialised value inline, or the size
// of one that comes in parts. Its index in the array is the part number.
type ValueRef struct {
	Raw  []byte // serialised value, not validated; nil when announced
	Size int    // announced size in bytes; 0 when inline
}

// Piece is a slice of a value in a part.
type Piece struct {
	Index  uint32 // position in the header's values
	Offset uint32 // in the serialised value
	Data   []byte
}

// Packet is any message. Which fields count depends on Kind; the others are
// zero after Parse and ignored by Append. Byte slices alias the datagram.
type Packet struct {
	Kind    Kind
	TID     uint32 // transaction id, or socket id in a Push
	Network uint32 // 0 is the public network
	Client  bool   // sender answers no requests: not for routing tables
	Agent   []byte // informational; nil is sent as the constant Agent

	ID       dht.InfoHash // sender's node id; zero when missing
	InfoHash dht.InfoHash // "h", or "target" of a Find; zero when missing
	Want     Want         // 0 when missing: the family of the request
	HasQuery bool
	Query    dht.Query // Get and Listen; slices are reused by Parse

	Token      []byte // write token; nil when missing
	ValueID    dht.ValueID
	HasValueID bool
	SocketID   uint32 // "sid"
	Version    uint32 // "ve"

	Values     []ValueRef    // Put, Update, Reply
	Created    int64         // "c", Unix seconds; may lie anywhere
	HasCreated bool          //
	Refreshed  []dht.ValueID // "re"
	Expired    []dht.ValueID // "exp"
	Fields     []byte        // "fileds", encoded: see ParseFields and AppendFields

	PublicAddr netip.Addr // "sa": the receiver as the sender sees it
	Nodes4     []byte     // compact entries of dht.NodeLen4 bytes
	Nodes6     []byte     // compact entries of dht.NodeLen6 bytes

	Code   int    // Error
	Text   []byte // Error
	Pieces []Piece

	raw []byte // the datagram parsed, for the Reassembler
}

// Reset clears p for reuse; slices that Parse fills keep their room.
func (p *Packet) Reset() {
	p.Query.Reset()
	*p = Packet{
		Query: p.Query, Values: p.Values[:0], Refreshed: p.Refreshed[:0],
		Expired: p.Expired[:0], Pieces: p.Pieces[:0],
	}
}

// maxNodes bounds the entries taken from one node list; peers send 8.
const maxNodes = 64

// AppendNodes appends the nodes of both lists to dst. A list of odd length is
// ErrNodeList: the content of the reply is to be thrown away (§3.6).
func (p *Packet) AppendNodes(dst []dht.NodeAddr) ([]dht.NodeAddr, error) {
	if len(p.Nodes4)%dht.NodeLen4 != 0 || len(p.Nodes6)%dht.NodeLen6 != 0 {
		return dst, ErrNodeList
	}
	dst = appendList(dst, p.Nodes4, dht.NodeLen4)
	return appendList(dst, p.Nodes6, dht.NodeLen6), nil
}

func appendList(dst []dht.NodeAddr, list []byte, size int) []dht.NodeAddr {
	for n := 0; len(list) >= size && n < maxNodes; n++ {
		if node, err := dht.ParseNodeAddr(list[:size]); err == nil {
			dst = append(dst, node)
		}
		list = list[size:]
	}
	return dst
}
