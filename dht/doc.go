// Package dht is the vocabulary of the OpenDHT network: places, keys, values,
// queries, value types and node addresses, each with its byte form. It knows
// no sockets, no clocks and no other package of ours but the msgpack codec.
// The wire format is docs/protocols/opendht.md; comments cite its sections.
//
// # Values
//
// A value as it travels (§5.1), keys in this order, optional ones in brackets:
//
//	value = {"id": uint64, "dat": dat, ["p": uint], ["pt": str]}
//	dat   = bin                                   encrypted value
//	      | {"body": body, ["sig": bin]}          plain or signed value
//	body  = {["seq": uint16, "owner": bin DER, ["to": bin 20]],
//	         "type": uint16, "data": bin, ["utype": str]}
//
// The body is what a signature covers, always in this canonical form.
// [ParseValue] reads any order and older spellings; [Value.Append] writes the
// canonical one, which is what nodes re-send and verify (§5.3).
//
// A *Value that has been handed on is shared and must not be changed; change a
// [Value.Clone] instead.
package dht
