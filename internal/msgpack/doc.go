// Package msgpack reads and writes the subset of MessagePack that DHT packets
// use, without reflection and without allocating.
//
// Writing is canonical: integers take their shortest form, byte strings are
// bin, texts are str. The Append functions follow the strconv convention:
// they append to dst and return the longer slice.
//
// Reading goes through [Reader], which walks one buffer and remembers its
// first error, so that a decoder can read a whole structure and ask once. No
// header is believed: a container may not announce more elements than there
// are bytes left, nesting ends at [MaxDepth], and nothing read is copied. What
// the reader hands out aliases the buffer.
package msgpack
