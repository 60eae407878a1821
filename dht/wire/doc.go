// Package wire is the packet codec of the OpenDHT protocol: bytes in, data
// out, and back. It does no I/O, reads no clock and logs nothing. The format is
// docs/protocols/opendht.md; comments cite its sections.
//
// # Packets
//
// One UDP datagram is one msgpack map (§2). A request, a reply, an error, a
// legacy push and a part of a large value:
//
//	{"a": {args}, "q": name, "t": tid, "y": "q", "v": agent, ["n": network], ["s": true]}
//	{"r": {args}, "t": tid, "y": "r", "v": agent, ["n"], ["s"]}
//	{"e": [code, text], "r": {"id": bin}, "t": tid, "y": "e", "v": agent, ["n"], ["s"]}
//	{"u": {args}, "y": "r", "v": agent, ["n"], ["s"], "t": socket id}
//	{["n"], ["s"], "y": "p", "t": tid, "p": {index: {"o": offset, "d": bin}}}
//
// [Packet] is all of them in one struct, so that one can be reused for every
// datagram received and another for every datagram sent: parsing and appending
// ping and find, asked or answered, allocates nothing. What a [Kind] carries,
// in the order it is written (§3.1):
//
//	Ping     id
//	Find     id target [w]
//	Get      id h [q] [w]
//	Put      id h values [c] token
//	Refresh  id h vid token
//	Listen   id ve h token sid [q]
//	Update   id ve h sid values [c] token   or   id sid [token] re|exp
//	Reply    id [vid] sa [n4] [n6] [token] [values|fileds]
//	Error    id (of the answering node, mandatory)
//	Push     id [token] re|exp
//
// # Aliasing
//
// [Packet.Parse] copies nothing: every byte slice of the packet points into
// the datagram, so both live and die together. What is kept longer must be
// copied; [dht.ParseValue] does so by itself, [dht.Query.Clone] on request.
//
// # Large values
//
// Values of 600 bytes or more in sum, or 50 and more of them, travel as parts
// behind their header packet (§4). [Packet.SetValues] decides, [EachPart] cuts,
// [Reassembler] puts together what others cut.
package wire
