package wire

import (
	"iter"

	"github.com/jirani/jirani/internal/msgpack"
)

// Limits of §4.1 and §4.2, in bytes unless said otherwise.
const (
	// InlineSize is the sum of serialised values from which all are sent in parts.
	InlineSize = 600
	// InlineValues is the number of values from which all are sent in parts.
	InlineValues = 50
	// PieceSize is what one part carries: with all headers no IP fragments.
	PieceSize = 1280
	// UpdateSize closes an update message once its values reach it.
	UpdateSize = 56 << 10
	// MaxAnnounced is the largest serialised value a header may announce;
	// larger ones are skipped silently.
	MaxAnnounced = 64<<10 + 32
)

// SetValues makes p carry the serialised values: inline, or their sizes when
// they must travel as parts. In the latter case it returns true, and the parts
// of [EachPart] must follow the header in order, now and whenever the header
// is sent again. An inline p aliases the values.
func (p *Packet) SetValues(values [][]byte) (fragmented bool) {
	fragmented = Fragmented(values)
	p.Values = p.Values[:0]
	for _, v := range values {
		ref := ValueRef{Raw: v}
		if fragmented {
			ref = ValueRef{Size: len(v)}
		}
		p.Values = append(p.Values, ref)
	}
	return fragmented
}

// Fragmented reports whether the serialised values of one message travel as
// parts: from 50 values, or from 600 bytes in sum (§4.1).
func Fragmented(values [][]byte) bool {
	sum := 0
	for _, v := range values {
		sum += len(v)
	}
	return len(values) >= InlineValues || sum >= InlineSize
}

// EachPart yields the pieces of the values in the order they are sent: value
// after value, ascending offsets. Pieces alias the values.
func EachPart(values [][]byte) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		for i, v := range values {
			for off := 0; off < len(v); off += PieceSize {
				end := min(off+PieceSize, len(v))
				if !yield(Piece{Index: uint32(i), Offset: uint32(off), Data: v[off:end]}) {
					return
				}
			}
		}
	}
}

// AppendPart appends the datagram that carries piece c of the message headed
// by p, with p's transaction id, network and client flag:
//
//	{["n"], ["s"], "y": "p", "t": tid, "p": {index: {"o": offset, "d": bin}}}
func (p *Packet) AppendPart(dst []byte, c Piece) []byte {
	dst = msgpack.AppendMapHeader(p.appendPartHead(dst), 1)
	return c.append(dst)
}

// GroupUpdates splits the values of one push into those of one message each: a
// message is closed once its values reach 56 KiB (§4.1). Groups alias values.
func GroupUpdates(values [][]byte) iter.Seq[[][]byte] {
	return func(yield func([][]byte) bool) {
		start, size := 0, 0
		for i, v := range values {
			if size >= UpdateSize {
				if !yield(values[start:i]) {
					return
				}
				start, size = i, 0
			}
			size += len(v)
		}
		if start < len(values) {
			yield(values[start:])
		}
	}
}
