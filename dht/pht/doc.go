// Package pht is the prefix hash tree of OpenDHT: an index over keys of
// several fields, spread over the DHT as a binary trie of plain values
// (docs/protocols/opendht.md §17).
//
// # Form
//
// A trie node is named by a bit string, the [Prefix], and lives at the place
//
//	SHA-1(bits, padded with zero bits to bytes ‖ one byte: their number mod 256)
//
// Two kinds of values of type 0 stand there, told apart by their user type:
//
//	"index.pht." NAME              an entry; data is the msgpack map
//	                               {"prefix": bin, "value": [bin 20 place, uint64 value id]}
//	"index.pht." NAME ".canary"    no data; says that this trie node exists
//
// A node is a leaf if it exists and the one a bit longer does not. Entries are
// found at the leaf on the way to their key. All values live ten minutes:
// whoever inserted an entry must insert it again.
//
// # Keys
//
// [Spec.Linearize] makes one bit string of the fields of a [Key]. The quirks in
// there, and in [Prefix.Sibling], are upstream's and must stay.
package pht
