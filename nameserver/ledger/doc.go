// Package ledger holds the formats and the verification of the name ledger:
// an append-only Merkle log of registrations whose every published state also
// commits to a map from names and addresses to log entries.
//
// Nothing here does I/O, reads a clock or keeps state; whoever holds this
// package, a verifier key and the bytes of a [Proof] can check an answer
// without trusting the server it came from.
//
// # Log
//
// Leaves are [Entry] values in the deterministic binary form of
// [AppendEntry]; leaf and node hashes are those of RFC 6962 §2.1. The log is
// published in the C2SP formats: a checkpoint (origin, size, root) as signed
// note with Ed25519 signatures and cosignature/v1 lines, hash tiles of height
// 8, entry bundles, and aligned with them evidence bundles that carry public
// key and signature of every registration (see [AppendEvidenceBundle]).
//
// # Map
//
// A binary prefix tree over 256-bit keys (see [NameKey] and [AddressKey]):
//
//	empty = 32 zero bytes
//	leaf  = SHA-256(0x01 ‖ key ‖ u64 index ‖ entryLeafHash)
//	inner = SHA-256(0x02 ‖ left ‖ right)
//
// Bit 0 is the most significant bit of the first byte; a leaf sits at the
// first depth where it is alone under its prefix, so the tree is a function of
// the set of leaves. index and entryLeafHash are those of the latest log entry
// about the key. Every batch of entries ends in a [MapRoot] entry, so that the
// last leaf of every published checkpoint of size n is a MapRoot with Size n-1
// over the entries [0, n-1).
//
// # Trust
//
// A checkpoint signature says only "this is what I show". That every name was
// registered by the holder of its key is checked from the evidence; that the
// map is the map of the log is checked by whoever replays it (followers); that
// everybody is shown the same log is what witnesses sign.
package ledger
