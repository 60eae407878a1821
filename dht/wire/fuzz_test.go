package wire_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/dht/wire"
)

// Whatever parses has one encoding, and that reads back as the same message.
func FuzzParsePacket(f *testing.F) {
	for _, b := range allPackets(f) {
		f.Add(b)
	}
	var reused wire.Packet
	f.Fuzz(func(t *testing.T, b []byte) {
		var p wire.Packet
		err := p.Parse(b)
		if (reused.Parse(b) == nil) != (err == nil) {
			t.Fatal("a reused packet parses differently")
		}
		if err != nil {
			return
		}
		once := p.Append(nil)
		var q wire.Packet
		if err := q.Parse(once); err != nil {
			t.Fatalf("own encoding %x: %v", once, err)
		}
		if twice := q.Append(nil); !bytes.Equal(once, twice) {
			t.Fatalf("not stable:\n%x\n%x", once, twice)
		}
		if nodes, err := p.AppendNodes(nil); err == nil && len(nodes) > 2*64 {
			t.Fatalf("%d nodes", len(nodes))
		}
	})
}

func FuzzParseFields(f *testing.F) {
	for _, b := range allPackets(f) {
		var p wire.Packet
		if p.Parse(b) == nil && p.Fields != nil {
			f.Add(p.Fields)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		selected, rows, err := wire.ParseFields(b)
		if err == nil && (len(selected) == 0 || len(rows) > wire.MaxRows) {
			t.Fatalf("%d fields, %d rows", len(selected), len(rows))
		}
	})
}

// script drives a Reassembler: each chunk of the input is a length byte pair
// and a datagram; time and source derive from the length.
func FuzzReassembler(f *testing.F) {
	header, parts := captured40k(f)
	var seed []byte
	for _, b := range append([][]byte{header}, parts[:3]...) {
		seed = append(append(seed, byte(len(b)>>8), byte(len(b))), b...)
	}
	f.Add(seed)
	small := announce(f, 1, 20, 30)
	for _, p := range []*wire.Packet{part(1, 1, 10, make([]byte, 20)), small, part(1, 0, 0, make([]byte, 20)), part(1, 1, 0, make([]byte, 10))} {
		b := p.Append(nil)
		f.Add(append([]byte{0, byte(len(b))}, b...))
		seed = append(append(seed, 0, byte(len(b))), b...)
	}
	f.Add(seed)
	limits := wire.ReassemblyLimits{Bytes: 300 << 10, Sets: 4, SourceBytes: 200 << 10, SourceSets: 3}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReassembler(limits)
		now := epoch
		for len(b) >= 2 {
			n := int(b[0])<<8 | int(b[1])
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, b[0] >> 6}), 4222)
			n = min(n&0x1fff, len(b)-2)
			datagram := b[2 : 2+n]
			b = b[2+n:]
			now = now.Add(time.Duration(n) * time.Millisecond)
			var p, done = new(wire.Packet), (*wire.Packet)(nil)
			if p.Parse(datagram) != nil {
				continue
			}
			var out wire.Outcome
			if p.Kind == wire.Part {
				done, out = r.Part(now, src, n%2 == 0, p)
			} else {
				done, out = r.Header(now, src, p)
			}
			if out == wire.Complete {
				for _, ref := range done.Values {
					if ref.Raw == nil && ref.Size <= wire.MaxAnnounced {
						t.Fatal("complete, but a value is missing")
					}
				}
			}
			if sets, bytes := r.Usage(); sets > limits.Sets || bytes > limits.Bytes || bytes < 0 {
				t.Fatalf("%d sets, %d bytes", sets, bytes)
			}
		}
		r.Sweep(now.Add(time.Minute))
		if sets, bytes := r.Usage(); sets != 0 || bytes != 0 {
			t.Fatalf("%d sets, %d bytes left", sets, bytes)
		}
	})
}
