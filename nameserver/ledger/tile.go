package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// TileHeight and TileWidth are fixed by C2SP tlog-tiles.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// MaxEntryBundle and MaxEvidenceBundle bound the encoded bundles in bytes.
const (
	MaxEntryBundle    = TileWidth * (2 + MaxEntry)
	MaxEvidenceBundle = TileWidth * (4 + MaxPublicKey + MaxSignature)
)

// Resource is what a path under the log's prefix names.
type Resource int

// The resources with a tile address.
const (
	ResourceTile     Resource = iota // tile/<L>/<N>[.p/<W>]
	ResourceEntries                  // tile/entries/<N>[.p/<W>]
	ResourceEvidence                 // tile/evidence/<N>[.p/<W>]
)

// TileID addresses a tile or bundle: Level counts tile levels (0 for bundles),
// Width is 256 for a full one.
type TileID struct {
	Resource Resource
	Level    int
	N        int64
	Width    int
}

// Path returns the address relative to the log's prefix, as in tlog-tiles:
// tile/0/x001/x234/067.p/8.
func (t TileID) Path() string {
	head := fmt.Sprintf("tile/%d/", t.Level)
	switch t.Resource {
	case ResourceEntries:
		head = "tile/entries/"
	case ResourceEvidence:
		head = "tile/evidence/"
	}
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	if t.Width < TileWidth {
		n += fmt.Sprintf(".p/%d", t.Width)
	}
	return head + n
}

// ParseTilePath is the inverse of Path; a path it accepts is the canonical one.
func ParseTilePath(path string) (TileID, error) {
	bad := func() (TileID, error) {
		return TileID{}, fmt.Errorf("%w: tile path %.80q", ErrMalformed, path)
	}
	if len(path) > 80 {
		return bad()
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	kind, num, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return bad()
	}
	t := TileID{Width: TileWidth}
	switch kind {
	case "entries":
		t.Resource = ResourceEntries
	case "evidence":
		t.Resource = ResourceEvidence
	default:
		if _, err := fmt.Sscanf(kind, "%d", &t.Level); err != nil || t.Level < 0 || t.Level > 7 {
			return bad()
		}
	}
	num, width, partial := strings.Cut(num, ".p/")
	if partial {
		if _, err := fmt.Sscanf(width, "%d", &t.Width); err != nil || t.Width < 1 || t.Width >= TileWidth {
			return bad()
		}
	}
	for _, part := range strings.Split(num, "/") {
		var n int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(part, "x"), "%d", &n); err != nil || n < 0 || t.N > 1<<50 {
			return bad()
		}
		t.N = t.N*1000 + n
	}
	if t.Path() != path {
		return bad()
	}
	return t, nil
}

// PartialWidth returns the width of tile n of a level in a log of the size
// given: 256 when full, 0 when it does not exist.
func PartialWidth(level int, n, size int64) int {
	have := size>>(TileHeight*level) - n*TileWidth
	return int(max(0, min(have, TileWidth)))
}

// AppendEntryBundle appends one entry to a bundle (C2SP tlog-tiles): u16
// length, bytes.
func AppendEntryBundle(dst, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(entry))), entry...)
}

// ParseEntryBundle splits a bundle of exactly width entries. The results alias
// b.
func ParseEntryBundle(b []byte, width int) ([][]byte, error) {
	if width < 0 || width > TileWidth {
		return nil, fmt.Errorf("%w: bundle of %d entries", ErrMalformed, width)
	}
	r, out := &reader{b: b}, make([][]byte, width)
	for i := range out {
		out[i] = r.take(int(r.u16()))
	}
	return out, r.done("entry bundle")
}

// AppendEvidenceBundle appends one entry's evidence to a bundle: u16 length,
// public key, u16 length, signature; four zero bytes where there is none.
func AppendEvidenceBundle(dst []byte, ev Evidence) []byte {
	dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(ev.PublicKey))), ev.PublicKey...)
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(ev.Signature))), ev.Signature...)
}

// ParseEvidenceBundle splits a bundle of exactly width evidences. The results
// alias b.
func ParseEvidenceBundle(b []byte, width int) ([]Evidence, error) {
	if width < 0 || width > TileWidth {
		return nil, fmt.Errorf("%w: bundle of %d evidences", ErrMalformed, width)
	}
	r, out := &reader{b: b}, make([]Evidence, width)
	for i := range out {
		out[i] = Evidence{PublicKey: r.take(int(r.u16())), Signature: r.take(int(r.u16()))}
	}
	return out, r.done("evidence bundle")
}

// ParseTile reads a hash tile of exactly width hashes.
func ParseTile(b []byte, width int) ([]Hash, error) {
	if len(b) != width*tlog.HashSize {
		return nil, fmt.Errorf("%w: tile of %d bytes, want %d hashes", ErrMalformed, len(b), width)
	}
	out := make([]Hash, width)
	for i := range out {
		copy(out[i][:], b[i*tlog.HashSize:])
	}
	return out, nil
}
