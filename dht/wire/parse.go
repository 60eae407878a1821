package wire

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// Bounds on what one datagram may hold. All are far above what peers send.
const (
	maxTokenLen = 128  // upstream takes up to 64 and issues 32
	maxValues   = 4096 // elements of "values"
	maxIDs      = 8192 // elements of "re" or "exp"
	maxPieces   = 64   // entries of "p"; peers send one
	maxFamilies = 16   // elements of "w"
)

// envelope holds the top-level objects that are parsed in a second step, since
// of two equal keys the last wins and order is free (§2).
type envelope struct {
	a, r, u, e, p []byte
	q, y          []byte
	hasY          bool
}

// Parse reads one datagram into p, overwriting it. Bytes after the map are
// ignored. The error is nil, or wraps ErrMalformed or ErrUnknown; p is then of
// no use but to be parsed into again. A missing id is no error here: it stays
// zero, and the receiver drops the packet as §3.2 says.
func (p *Packet) Parse(b []byte) error {
	p.Reset()
	r := msgpack.NewReader(b)
	var env envelope
	for n := r.MapLen(); n > 0; n-- {
		p.parseTop(&r, &env)
	}
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	p.raw = b[:r.Offset()]
	return p.parseBody(&env)
}

func malformed(err error) error { return fmt.Errorf("%w: %w", ErrMalformed, err) }

// parseTop reads one pair of the top-level map (§2.1).
func (p *Packet) parseTop(r *msgpack.Reader, env *envelope) {
	switch string(mapKey(r)) {
	case "a":
		env.a = r.Raw()
	case "r":
		env.r = r.Raw()
	case "u":
		env.u = r.Raw()
	case "e":
		env.e = r.Raw()
	case "p":
		env.p = r.Raw()
	case "q":
		env.q = name(r)
	case "y":
		env.y, env.hasY = name(r), true
	case "v":
		p.Agent = name(r)
	case "t":
		p.TID = number32(r)
	case "n":
		p.Network = uint32(r.UintMax(math.MaxUint32))
	case "s":
		p.Client = r.Bool()
	default:
		r.Skip()
	}
}

// parseBody classifies as upstream does (§2.1): e, r, p, u, then q.
func (p *Packet) parseBody(env *envelope) error {
	switch {
	case env.e != nil:
		p.Kind = Error
		return p.parseError(env)
	case env.r != nil:
		p.Kind = Reply
		return p.parseArgs(env.r)
	case env.p != nil:
		p.Kind = Part
		return p.parsePieces(env.p)
	case env.u != nil:
		p.Kind = Push
		return p.parseArgs(env.u)
	case env.hasY && string(env.y) != "q":
		return ErrUnknown
	}
	if p.Kind = requestKind(env.q); p.Kind == Invalid {
		return ErrUnknown
	}
	if env.a == nil {
		return nil // no id either: the receiver drops it
	}
	return p.parseArgs(env.a)
}

// parseError reads [code, text] and the arguments beside it (§3.3).
func (p *Packet) parseError(env *envelope) error {
	r := msgpack.NewReader(env.e)
	n := r.ArrayLen()
	if n == 0 {
		r.Fail("error without a code")
	}
	p.Code = int(r.UintMax(math.MaxUint16))
	if n > 1 {
		p.Text = name(&r)
	}
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	if env.r == nil {
		return nil
	}
	return p.parseArgs(env.r)
}

// parsePieces reads {index: {"o": offset, "d": data}}.
func (p *Packet) parsePieces(b []byte) error {
	r := msgpack.NewReader(b)
	n := r.MapLen()
	if n > maxPieces {
		r.Fail("too many pieces")
	}
	for ; n > 0 && r.Err() == nil; n-- {
		piece := Piece{Index: uint32(r.UintMax(maxValues - 1))}
		for m := r.MapLen(); m > 0; m-- {
			switch string(mapKey(&r)) {
			case "o":
				piece.Offset = uint32(r.UintMax(math.MaxUint32))
			case "d":
				piece.Data = r.Blob()
			default:
				r.Skip()
			}
		}
		p.Pieces = append(p.Pieces, piece)
	}
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	return nil
}

// parseArgs reads the map of "a", "r" or "u". All keys are read in all
// messages, as upstream does; a key of the wrong type drops the packet.
func (p *Packet) parseArgs(b []byte) error {
	r := msgpack.NewReader(b)
	for n := r.MapLen(); n > 0; n-- {
		p.parseArg(&r)
	}
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	return nil
}

func (p *Packet) parseArg(r *msgpack.Reader) {
	switch string(mapKey(r)) {
	case "id":
		p.ID = hash(r)
	case "h", "target": // no request has both
		p.InfoHash = hash(r)
	case "w":
		p.Want = families(r)
	case "q":
		p.parseQuery(r)
	case "token":
		p.Token = token(r)
	case "vid":
		p.ValueID, p.HasValueID = dht.ValueID(r.Uint()), true
	case "sid":
		p.SocketID = number32(r)
	case "ve":
		p.Version = uint32(r.UintMax(math.MaxUint32))
	case "values":
		p.parseValues(r)
	case "c":
		p.Created, p.HasCreated = r.Int(), true
	case "re":
		p.Refreshed = valueIDs(r, p.Refreshed[:0])
	case "exp":
		p.Expired = valueIDs(r, p.Expired[:0])
	case "fileds":
		p.Fields = r.Raw()
	case "sa":
		p.PublicAddr, _ = netip.AddrFromSlice(r.Bin())
	case "n4":
		p.Nodes4 = r.Blob()
	case "n6":
		p.Nodes6 = r.Blob()
	default:
		r.Skip()
	}
}

func (p *Packet) parseQuery(r *msgpack.Reader) {
	raw := r.Raw()
	if r.Err() != nil {
		return
	}
	if p.Query.Parse(raw) != nil {
		r.Fail("query unreadable")
		return
	}
	p.HasQuery = true
}

// parseValues notes inline values by their bytes and announced ones by their
// size. What is neither stays an element that no value parser will accept, so
// that the index of the others holds (§4.2).
func (p *Packet) parseValues(r *msgpack.Reader) {
	n := r.ArrayLen()
	if n > maxValues {
		r.Fail("too many values")
		return
	}
	p.Values = p.Values[:0]
	for ; n > 0 && r.Err() == nil; n-- {
		raw := r.Raw()
		ref := ValueRef{Raw: raw}
		if size, ok := announced(raw); ok {
			ref = ValueRef{Size: size}
		}
		p.Values = append(p.Values, ref)
	}
}

// announced reads a positive integer; larger than int32 counts as that.
func announced(raw []byte) (int, bool) {
	r := msgpack.NewReader(raw)
	if r.Kind() != msgpack.Int {
		return 0, false
	}
	n := r.Uint()
	if r.Err() != nil || n == 0 {
		return 0, false
	}
	return int(min(n, math.MaxInt32)), true
}
