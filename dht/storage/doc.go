// Package storage is the memory of a DHT node: values others put on it and the listeners to tell of them
// (docs/protocols/opendht.md §12, §11.2). It is pure data: no input or output, no goroutine, no clock; the caller passes
// the time, applies the store and edit policies of the value's type before it calls [Store.Set], and sends what listeners
// must hear.
//
// # Form
//
// Values are kept as the bytes they are sent as, so that answering a get copies and does not encode, packed into pages
// outside the collector's heap. What a store needs to decide (id, type, times, source) stands in a record without
// pointers. A value of 200 bytes costs about 350 bytes in all.
//
// # Quotas (§12.2, §12.5)
//
// Bytes are counted for each source ([SourceOf]: an IPv4 address or the /64 of an IPv6 address), serialised form plus an
// overhead for our own records, so that many small values, owner keys or empty keys are not free. A source above its own
// limit loses its value that ends first; when all sources together are above the total, the largest source does. Local
// values have a source of their own, [Local], without limit. Listeners are bounded for each source, for each key and in
// total.
//
// # Expiry
//
// Each source keeps its values in a heap by end of life and the store keeps the sources in a heap by their first end, so
// an idle value or listener costs no time at all.
//
// A Store is not safe for concurrent use.
package storage
