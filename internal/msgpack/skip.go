package msgpack

// Skip reads over one object, at most [MaxDepth] levels deep.
func (r *Reader) Skip() { r.skip(0) }

// Raw returns the encoded bytes of the next object and moves past it.
func (r *Reader) Raw() []byte {
	start := r.off
	r.Skip()
	if r.err != nil {
		return nil
	}
	return r.b[start:r.off:r.off]
}

func (r *Reader) skip(depth int) {
	if depth > MaxDepth {
		r.Fail("nested too deeply")
		return
	}
	switch r.Kind() {
	case Nil:
		r.Nil()
	case Bool:
		r.Bool()
	case Int:
		r.number()
	case Float:
		c, _ := r.head(Float)
		r.take(4 << (c - 0xca))
	case Str:
		r.Str()
	case Bin:
		r.Bin()
	case Ext:
		r.Ext()
	case Array:
		r.skipN(r.ArrayLen(), depth)
	case Map:
		r.skipN(2*r.MapLen(), depth)
	default:
		r.Fail("no object")
	}
}

// skipN skips n objects inside a container at depth.
func (r *Reader) skipN(n, depth int) {
	for ; n > 0 && r.err == nil; n-- {
		r.skip(depth + 1)
	}
}

// Blob reads opaque bytes: bin, str, or an array of integers from 0 to 255,
// which is how encoders before msgpack 2 wrote them. Only the array form
// allocates.
func (r *Reader) Blob() []byte {
	switch r.Kind() {
	case Str:
		return r.Str()
	case Array:
		n := r.ArrayLen()
		b := make([]byte, 0, n)
		for ; n > 0 && r.err == nil; n-- {
			b = append(b, byte(r.UintMax(0xff)))
		}
		return b
	}
	return r.Bin()
}
