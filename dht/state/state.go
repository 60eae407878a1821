// Package state reads and writes the file in which a node keeps its id, its
// peers and its values over a restart (docs/protocols/opendht.md §15.1). It is
// upstream's format, so that a node can move from one program to the other:
//
//	{"v": 1, "id": bin 20, "nodes": [node…], "values": [[bin 20 key, bin blob]…]}
//	node  = {"id": bin 20, "addr": bin sockaddr}       keys in this order
//	blob  = [entry…], msgpack inside the bin
//	entry = [created, value]                            up to 3.7.3
//	      | [created, value, bin source, ends]          since 3.7.4
//
// Up to 4.2 times are integers, nanoseconds of a monotonic clock that ended
// with its machine; since 4.3 they are msgpack timestamps. All are read, the
// last is written.
//
// The file holds no secrets. Its values are other people's and its bytes are
// untrusted input like any packet: whoever can write it can give the node
// another id, dead peers and values that their policies will judge again. It
// may be lost; the node then starts with an empty table.
package state

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// ErrDamaged marks a file that is no state file, or not whole: go on without.
var ErrDamaged = errors.New("state: damaged state file")

// Version is the only one there is.
const Version = 1

// Limits on what is read.
const (
	maxNodes  = 65536   // entries of "nodes"; a full table of one family has some 160 · 8
	maxValues = 1 << 22 // values in all
)

// State is the content of the file.
type State struct {
	ID      dht.InfoHash   // zero if the file has none
	Nodes   []dht.NodeAddr // to be offered to the table unverified
	Values  []Stored
	Skipped int // entries that could not be read, or had ended; after Parse only
}

// Stored is a value at its place.
type Stored struct {
	Key       dht.InfoHash
	Value     *dht.Value
	Created   time.Time      // not after now
	Ends      time.Time      // when it goes unless refreshed
	Permanent bool           // put permanently by the node that wrote the file
	Source    netip.AddrPort // who put it; invalid for local values
}

// The time that stands for "never": the largest of a signed 64-bit count of
// nanoseconds (§15.1).
const (
	neverSec  = 9223372036
	neverNsec = 854775807
)

// Append appends the file in the form of OpenDHT 4.3. Values of one key should
// stand together: each run of them becomes one blob.
func (s *State) Append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 4)
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "v"), Version)
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "id"), s.ID[:])
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "nodes"), len(s.Nodes))
	for _, n := range s.Nodes {
		dst = appendNode(dst, n)
	}
	runs := runs(s.Values)
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "values"), len(runs))
	var blob []byte
	for _, run := range runs {
		blob = msgpack.AppendArrayHeader(blob[:0], len(run))
		for i := range run {
			blob = run[i].append(blob)
		}
		dst = msgpack.AppendArrayHeader(dst, 2)
		dst = msgpack.AppendBin(msgpack.AppendBin(dst, run[0].Key[:]), blob)
	}
	return dst
}

// runs splits values where the key changes.
func runs(values []Stored) (runs [][]Stored) {
	for len(values) > 0 {
		n := 1
		for n < len(values) && values[n].Key == values[0].Key {
			n++
		}
		runs, values = append(runs, values[:n]), values[n:]
	}
	return runs
}

func appendNode(dst []byte, n dht.NodeAddr) []byte {
	dst = msgpack.AppendMapHeader(dst, 2)
	dst = msgpack.AppendBin(msgpack.AppendStr(dst, "id"), n.ID[:])
	return msgpack.AppendBin(msgpack.AppendStr(dst, "addr"), dht.AppendSockaddr(nil, n.Addr))
}

func (v *Stored) append(dst []byte) []byte {
	dst = msgpack.AppendTime(msgpack.AppendArrayHeader(dst, 4), v.Created)
	dst = msgpack.AppendBin(v.Value.Append(dst), dht.AppendSockaddr(nil, v.Source))
	if v.Permanent {
		return msgpack.AppendTimestamp(dst, neverSec, neverNsec)
	}
	return msgpack.AppendTime(dst, v.Ends)
}

func damaged(err error) error { return fmt.Errorf("%w: %w", ErrDamaged, err) }
