package wire

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// set is one message in parts. Owned by its Reassembler.
type set struct {
	began, last time.Time
	source      netip.Prefix
	charged     int    // bytes counted against the limits
	header      []byte // the header datagram; nil while only early parts are here
	values      []partial
	missing     int // values still awaited
	early       []Piece
	earlyBytes  int
}

// partial is one value being put together; size 0 for one not awaited.
type partial struct {
	size  int
	held  int    // bytes received
	buf   []byte // allocated with the first piece
	spans []span // ranges held, ascending, never touching
}

// span is a range of bytes, end exclusive.
type span struct{ from, to int }

// over reports whether the set has waited too long (§4.2).
func (s *set) over(now time.Time) bool {
	return now.Sub(s.began) >= setTimeout || now.Sub(s.last) >= pieceTimeout
}

// start makes p the set's header.
func (s *set) start(now time.Time, p *Packet, wanted int) {
	s.header = bytes.Clone(p.raw)
	s.last = now
	s.missing = wanted
	s.values = make([]partial, len(p.Values))
	for i, ref := range p.Values {
		if acceptable(ref) {
			s.values[i].size = ref.Size
		}
	}
}

// packet parses the header again and puts the finished values into it.
func (s *set) packet() *Packet {
	p := new(Packet)
	if p.Parse(s.header) != nil {
		return nil // cannot be: it parsed before
	}
	for i := range s.values {
		if v := &s.values[i]; v.size > 0 {
			p.Values[i] = ValueRef{Raw: v.buf}
		}
	}
	return p
}

// check says whether piece c fits: Waiting if so, Bad when it is empty or
// lies outside, Repeated when it overlaps what is held.
func (v *partial) check(c Piece) Outcome {
	from, n := int64(c.Offset), int64(len(c.Data))
	if n == 0 || from+n > int64(v.size) {
		return Bad
	}
	i := v.after(int(from))
	if i > 0 && v.spans[i-1].to > int(from) || i < len(v.spans) && int64(v.spans[i].from) < from+n {
		return Repeated
	}
	return Waiting
}

// after is the index of the first span that starts beyond off.
func (v *partial) after(off int) int {
	i, _ := slices.BinarySearchFunc(v.spans, off, func(s span, off int) int {
		if s.from <= off {
			return -1
		}
		return 1
	})
	return i
}

// add copies a piece that check let pass and joins touching ranges.
func (v *partial) add(c Piece) {
	n := span{int(c.Offset), int(c.Offset) + len(c.Data)}
	copy(v.buf[n.from:], c.Data)
	v.held += len(c.Data)
	i := v.after(n.from)
	first, last := i, i
	if i > 0 && v.spans[i-1].to == n.from {
		first, n.from = i-1, v.spans[i-1].from
	}
	if i < len(v.spans) && v.spans[i].from == n.to {
		last, n.to = i+1, v.spans[i].to
	}
	v.spans = slices.Replace(v.spans, first, last, n)
}
