package state

import (
	"fmt"
	"math"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// Parse reads a state file of any version. Single nodes and values that cannot
// be read are skipped and counted; a file that is not whole is ErrDamaged.
//
// Times are bounded: a value counts as created at now at the latest, and ends
// at its creation plus the lifetime of its type at the latest. A permanent one
// ends a lifetime from now, unless it is announced again. Values that have
// ended are left out.
func Parse(b []byte, now time.Time, lifetime func(dht.ValueTypeID) time.Duration) (*State, error) {
	p := parser{now: now, lifetime: lifetime}
	r := msgpack.NewReader(b)
	version := uint64(0)
	for n := r.MapLen(); n > 0; n-- {
		switch string(mapKey(&r)) {
		case "v":
			version = r.Uint()
		case "id":
			p.state.ID = hash(&r)
		case "nodes":
			p.nodes(&r)
		case "values":
			p.values(&r)
		default:
			r.Skip()
		}
	}
	if err := r.Err(); err != nil {
		return nil, damaged(err)
	}
	if version != Version {
		return nil, fmt.Errorf("%w: version %d", ErrDamaged, version)
	}
	return &p.state, nil
}

// parser is one run of Parse.
type parser struct {
	now      time.Time
	lifetime func(dht.ValueTypeID) time.Duration
	state    State
}

func mapKey(r *msgpack.Reader) []byte {
	if r.Kind() == msgpack.Str {
		return r.Str()
	}
	r.Skip()
	return nil
}

func hash(r *msgpack.Reader) dht.InfoHash {
	h, ok := dht.InfoHashFrom(r.Bin())
	if !ok {
		r.Fail("bin of 20 bytes expected")
	}
	return h
}

// nodes reads the array of nodes. Upstream checks the order of the two keys;
// we do not mind it.
func (p *parser) nodes(r *msgpack.Reader) {
	n := r.ArrayLen()
	if n > maxNodes {
		r.Fail("too many nodes")
		return
	}
	for ; n > 0 && r.Err() == nil; n-- {
		if node, ok := parseNode(r.Raw()); ok {
			p.state.Nodes = append(p.state.Nodes, node)
		} else {
			p.state.Skipped++
		}
	}
}

func parseNode(b []byte) (node dht.NodeAddr, ok bool) {
	r := msgpack.NewReader(b)
	for n := r.MapLen(); n > 0; n-- {
		switch string(mapKey(&r)) {
		case "id":
			node.ID = hash(&r)
		case "addr":
			addr, err := dht.ParseSockaddr(r.Bin())
			if err != nil {
				r.Fail("no socket address")
			}
			node.Addr = addr
		default:
			r.Skip()
		}
	}
	return node, r.Err() == nil && !node.ID.IsZero() && node.Addr.IsValid() && node.Addr.Port() != 0
}

// values reads the array of [key, blob].
func (p *parser) values(r *msgpack.Reader) {
	for n := r.ArrayLen(); n > 0 && r.Err() == nil; n-- {
		pair := msgpack.NewReader(r.Raw())
		m := pair.ArrayLen()
		if m < 2 {
			p.state.Skipped++
			continue
		}
		key := hash(&pair)
		if blob := pair.Bin(); pair.Err() == nil && !key.IsZero() {
			p.blob(key, blob)
		} else {
			p.state.Skipped++
		}
	}
}

// blob reads the entries of one key.
func (p *parser) blob(key dht.InfoHash, b []byte) {
	r := msgpack.NewReader(b)
	n := r.ArrayLen()
	for ; n > 0 && r.Err() == nil && len(p.state.Values) < maxValues; n-- {
		if v, ok := p.entry(r.Raw()); ok {
			v.Key = key
			p.state.Values = append(p.state.Values, v)
		} else {
			p.state.Skipped++
		}
	}
	if r.Err() != nil {
		p.state.Skipped++
	}
}

// entry reads [created, value] or [created, value, source, ends]. The kind of
// the first element tells a monotonic from a wall clock.
func (p *parser) entry(b []byte) (v Stored, ok bool) {
	r := msgpack.NewReader(b)
	n := r.ArrayLen()
	if n < 2 {
		return v, false
	}
	created, wall := readTime(&r)
	value, _, err := dht.ParseValue(r.Raw())
	if err != nil || r.Err() != nil || value.ID == 0 {
		return v, false
	}
	v = Stored{Value: value, Created: p.now}
	if wall && created.Before(p.now) {
		v.Created = created
	}
	life := p.lifetime(value.Type)
	v.Ends = v.Created.Add(life)
	if n < 4 {
		return v, v.Ends.After(p.now)
	}
	if v.Source, err = dht.ParseSockaddr(r.Bin()); err != nil {
		return v, false
	}
	never := isNever(r)
	ends, _ := readTime(&r)
	if r.Err() != nil {
		return v, false
	}
	if v.Permanent = never; never {
		v.Ends = p.now.Add(life)
	} else if wall {
		v.Ends = earlier(ends, v.Ends)
	}
	return v, v.Ends.After(p.now)
}

// isNever looks ahead for the time that stands for "never".
func isNever(r msgpack.Reader) bool {
	if r.Kind() == msgpack.Int {
		return r.Uint() == math.MaxInt64
	}
	sec, _ := r.Timestamp()
	return r.Err() == nil && sec >= neverSec
}

// readTime reads a timestamp, or nanoseconds of a clock that is gone.
func readTime(r *msgpack.Reader) (t time.Time, wall bool) {
	if r.Kind() == msgpack.Int {
		r.Int()
		return time.Time{}, false
	}
	sec, nsec := r.Timestamp()
	return time.Unix(min(max(sec, 0), neverSec), int64(nsec)), true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
