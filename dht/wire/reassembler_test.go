package wire_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

var (
	epoch = time.Unix(1_795_000_000, 0)
	peerA = netip.MustParseAddrPort("192.0.2.1:4222")
	peerB = netip.MustParseAddrPort("192.0.2.2:4222")
)

// captured40k is the header and the 33 parts of a captured 40 KiB put.
func captured40k(t testing.TB) (header []byte, parts [][]byte) {
	for _, v := range loadVectors(t, "fragmented-put-40k.jsonl")["fragmented-put-40k.jsonl"] {
		switch v.Name {
		case "header":
			header = v.Bytes(t)
		case "part":
			parts = append(parts, v.Bytes(t))
		}
	}
	if len(parts) != 33 {
		t.Fatalf("%d parts", len(parts))
	}
	return header, parts
}

func parse(t testing.TB, b []byte) *wire.Packet {
	t.Helper()
	p := new(wire.Packet)
	if err := p.Parse(b); err != nil {
		t.Fatal(err)
	}
	return p
}

func check40k(t *testing.T, p *wire.Packet) {
	t.Helper()
	if p == nil || len(p.Values) != 1 {
		t.Fatal("not completed")
	}
	v, rest, err := dht.ParseValue(p.Values[0].Raw)
	if err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if !bytes.Equal(v.Data, bytes.Repeat([]byte("0123456789abcdef"), 2560)) || v.UserType != "text/plain" {
		t.Errorf("value differs: %d bytes, %q", len(v.Data), v.UserType)
	}
	if p.Kind != wire.Put || p.InfoHash.IsZero() || p.Token == nil || !p.HasCreated {
		t.Errorf("header lost: %+v", p)
	}
}

func TestReassembleOrders(t *testing.T) {
	t.Parallel()
	header, parts := captured40k(t)
	shuffled := slices.Clone(parts)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	reversed := slices.Clone(parts)
	slices.Reverse(reversed)
	var doubled [][]byte
	for _, p := range parts {
		doubled = append(doubled, p, p)
	}
	for name, order := range map[string][][]byte{"ascending": parts, "reversed": reversed, "shuffled": shuffled, "doubled": doubled} {
		for _, early := range []int{0, 5, 33} {
			r := wire.NewReassembler(wire.DefaultReassemblyLimits())
			if early > len(order) {
				continue
			}
			var done *wire.Packet
			for i, b := range order {
				if i == early {
					p, out := r.Header(epoch, peerA, parse(t, header))
					if done = p; out != wire.Waiting {
						t.Fatalf("%s: header %v", name, out)
					}
				}
				p, out := r.Part(epoch, peerA, true, parse(t, b))
				if out == wire.Complete {
					done = p
					break
				}
				if out == wire.Overflow || out == wire.Bad || out == wire.Stray {
					t.Fatalf("%s: part %d: %v", name, i, out)
				}
			}
			if early == len(order) {
				done, _ = r.Header(epoch, peerA, parse(t, header))
			}
			check40k(t, done)
			if sets, n := r.Usage(); sets != 0 || n != 0 {
				t.Errorf("%s: %d sets, %d bytes left", name, sets, n)
			}
		}
	}
}

// Two sources using one tid at the same time do not mix (§4.2).
func TestReassembleInterleaved(t *testing.T) {
	t.Parallel()
	header, parts := captured40k(t)
	r := wire.NewReassembler(wire.DefaultReassemblyLimits())
	for _, src := range []netip.AddrPort{peerA, peerB} {
		if _, out := r.Header(epoch, src, parse(t, header)); out != wire.Waiting {
			t.Fatal(out)
		}
		if _, out := r.Header(epoch, src, parse(t, header)); out != wire.Repeated {
			t.Fatalf("second header: %v", out)
		}
	}
	done := 0
	for _, b := range parts {
		for _, src := range []netip.AddrPort{peerA, peerB} {
			if p, out := r.Part(epoch, src, false, parse(t, b)); out == wire.Complete {
				check40k(t, p)
				done++
			}
		}
	}
	if done != 2 {
		t.Errorf("%d of 2 completed", done)
	}
}

// announce is the header of a put that announces those sizes.
func announce(t testing.TB, tid uint32, sizes ...int) *wire.Packet {
	p := wire.Packet{Kind: wire.Put, ID: someID, InfoHash: someKey, TID: tid, Token: []byte("t")}
	for _, n := range sizes {
		p.Values = append(p.Values, wire.ValueRef{Size: n})
	}
	return parse(t, p.Append(nil))
}

func part(tid uint32, index, offset uint32, data []byte) *wire.Packet {
	return &wire.Packet{Kind: wire.Part, TID: tid, Pieces: []wire.Piece{{Index: index, Offset: offset, Data: data}}}
}

func TestReassembleSteps(t *testing.T) {
	t.Parallel()
	type step struct {
		after time.Duration // since the first
		p     *wire.Packet
		known bool
		want  wire.Outcome
	}
	hundred := make([]byte, 100)
	tests := []struct {
		name  string
		steps []step
	}{
		{"nothing announced", []step{{0, announce(t, 1), false, wire.Whole}}},
		{"65,568 is awaited", []step{{0, announce(t, 1, 65568), false, wire.Waiting}}},
		{"65,569 is not", []step{{0, announce(t, 1, 65569), false, wire.Whole}}},
		{"too large beside awaited", []step{
			{0, announce(t, 1, 65569, 100), false, wire.Waiting},
			{0, part(1, 0, 0, hundred), false, wire.Bad},
			{0, part(1, 1, 0, hundred), false, wire.Complete},
		}},
		{"stray", []step{{0, part(1, 0, 0, hundred), false, wire.Stray}}},
		{"early, then header", []step{
			{0, part(1, 0, 0, hundred), true, wire.Early},
			{0, announce(t, 1, 100), false, wire.Complete},
		}},
		{"early but late header", []step{
			{0, part(1, 0, 0, hundred), true, wire.Early},
			{3 * time.Second, announce(t, 1, 100), false, wire.Waiting},
		}},
		{"other tid", []step{{0, announce(t, 1, 100), false, wire.Waiting}, {0, part(2, 0, 0, hundred), false, wire.Stray}}},
		{"pieces of any size", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{0, part(1, 0, 99, hundred[:1]), false, wire.Waiting},
			{0, part(1, 0, 0, hundred[:70]), false, wire.Waiting},
			{0, part(1, 0, 70, hundred[:29]), false, wire.Complete},
		}},
		{"overlaps and repeats", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{0, part(1, 0, 10, hundred[:10]), false, wire.Waiting},
			{0, part(1, 0, 10, hundred[:10]), false, wire.Repeated},
			{0, part(1, 0, 5, hundred[:6]), false, wire.Repeated},
			{0, part(1, 0, 19, hundred[:6]), false, wire.Repeated},
			{0, part(1, 0, 0, hundred), false, wire.Repeated},
			{0, part(1, 0, 0, hundred[:10]), false, wire.Waiting},
			{0, part(1, 0, 20, hundred[:80]), false, wire.Complete},
		}},
		{"outside", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{0, part(1, 0, 1, hundred), false, wire.Bad},
			{0, part(1, 0, 1<<32-1, hundred), false, wire.Bad},
			{0, part(1, 1, 0, hundred), false, wire.Bad},
			{0, part(1, 0, 0, nil), false, wire.Bad},
			{0, part(1, 0, 0, hundred), false, wire.Complete},
		}},
		{"3 s between pieces", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{2900 * time.Millisecond, part(1, 0, 0, hundred[:50]), false, wire.Waiting},
			{5800 * time.Millisecond, part(1, 0, 50, hundred[:50]), false, wire.Complete},
		}},
		{"piece too late", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{3 * time.Second, part(1, 0, 0, hundred), false, wire.Stray},
		}},
		{"10 s in all", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{2 * time.Second, part(1, 0, 0, hundred[:10]), false, wire.Waiting},
			{4 * time.Second, part(1, 0, 10, hundred[:10]), false, wire.Waiting},
			{6 * time.Second, part(1, 0, 20, hundred[:10]), false, wire.Waiting},
			{8 * time.Second, part(1, 0, 30, hundred[:10]), false, wire.Waiting},
			{10 * time.Second, part(1, 0, 40, hundred[:60]), false, wire.Stray},
		}},
		{"repeats do not prolong", []step{
			{0, announce(t, 1, 100), false, wire.Waiting},
			{0, part(1, 0, 0, hundred[:10]), false, wire.Waiting},
			{2 * time.Second, part(1, 0, 0, hundred[:10]), false, wire.Repeated},
			{4 * time.Second, part(1, 0, 10, hundred[:90]), false, wire.Stray},
		}},
		{"empty early part", []step{{0, part(1, 0, 0, nil), true, wire.Overflow}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReassembler(wire.DefaultReassemblyLimits())
			for i, s := range tt.steps {
				var out wire.Outcome
				if s.p.Kind == wire.Part {
					_, out = r.Part(epoch.Add(s.after), peerA, s.known, s.p)
				} else {
					_, out = r.Header(epoch.Add(s.after), peerA, s.p)
				}
				if out != s.want {
					t.Fatalf("step %d: %v, want %v", i, out, s.want)
				}
			}
			r.Sweep(epoch.Add(time.Hour))
			if sets, n := r.Usage(); sets != 0 || n != 0 {
				t.Errorf("%d sets, %d bytes left", sets, n)
			}
		})
	}
}

func TestReassembleLimits(t *testing.T) {
	t.Parallel()
	t.Run("early parts", func(t *testing.T) {
		r := wire.NewReassembler(wire.DefaultReassemblyLimits())
		for i := range uint32(98) {
			if _, out := r.Part(epoch, peerA, true, part(1, 0, i, []byte{1})); out != wire.Early {
				t.Fatalf("part %d: %v", i, out)
			}
		}
		if _, out := r.Part(epoch, peerA, true, part(1, 0, 98, []byte{1})); out != wire.Overflow {
			t.Errorf("part 99: %v", out)
		}
	})
	t.Run("early bytes", func(t *testing.T) {
		r := wire.NewReassembler(wire.DefaultReassemblyLimits())
		if _, out := r.Part(epoch, peerA, true, part(1, 0, 0, make([]byte, 122912))); out != wire.Early {
			t.Error(out)
		}
		if _, out := r.Part(epoch, peerA, true, part(1, 0, 0, []byte{1})); out != wire.Overflow {
			t.Error(out)
		}
	})
	t.Run("sets of a source", func(t *testing.T) {
		r := wire.NewReassembler(wire.ReassemblyLimits{Bytes: 1 << 20, Sets: 10, SourceBytes: 1 << 20, SourceSets: 2})
		for tid := range uint32(3) {
			src := netip.AddrPortFrom(peerA.Addr(), uint16(tid+1)) // other ports, same source
			want := []wire.Outcome{wire.Waiting, wire.Waiting, wire.Overflow}[tid]
			if _, out := r.Header(epoch, src, announce(t, tid, 100)); out != want {
				t.Errorf("set %d: %v", tid, out)
			}
		}
		if _, out := r.Header(epoch, peerB, announce(t, 9, 100)); out != wire.Waiting {
			t.Errorf("other source: %v", out)
		}
	})
	t.Run("bytes of a source", func(t *testing.T) {
		r := wire.NewReassembler(wire.ReassemblyLimits{Bytes: 1 << 20, Sets: 10, SourceBytes: 64 << 10, SourceSets: 10})
		if _, out := r.Header(epoch, peerA, announce(t, 1, 60000, 60000)); out != wire.Waiting {
			t.Fatal(out)
		}
		if _, out := r.Part(epoch, peerA, false, part(1, 0, 0, []byte{1})); out != wire.Waiting {
			t.Error(out)
		}
		if _, out := r.Part(epoch, peerA, false, part(1, 1, 0, []byte{1})); out != wire.Overflow {
			t.Error(out)
		}
		if sets, n := r.Usage(); sets != 0 || n != 0 {
			t.Errorf("%d sets, %d bytes left", sets, n)
		}
	})
	t.Run("scattered single bytes", func(t *testing.T) {
		r := wire.NewReassembler(wire.DefaultReassemblyLimits())
		r.Header(epoch, peerA, announce(t, 1, 65568))
		out := wire.Waiting
		for i := uint32(0); out == wire.Waiting && i < 65568; i += 2 {
			_, out = r.Part(epoch, peerA, false, part(1, 0, i, []byte{1}))
		}
		if out != wire.Overflow {
			t.Errorf("outcome %v", out)
		}
	})
}

// What we cut, we can put together; the cuts are those of the capture.
func TestFragmentsMatchCapture(t *testing.T) {
	t.Parallel()
	header, parts := captured40k(t)
	r := wire.NewReassembler(wire.DefaultReassemblyLimits())
	r.Header(epoch, peerA, parse(t, header))
	var whole *wire.Packet
	for _, b := range parts {
		if p, out := r.Part(epoch, peerA, false, parse(t, b)); out == wire.Complete {
			whole = p
		}
	}
	check40k(t, whole)
	values := [][]byte{whole.Values[0].Raw}
	if !whole.SetValues(values) {
		t.Fatal("sent inline")
	}
	if got := whole.Append(nil); !bytes.Equal(got, header) {
		t.Errorf("header differs: %x", got)
	}
	i := 0
	for c := range wire.EachPart(values) {
		if got := whole.AppendPart(nil, c); !bytes.Equal(got, parts[i]) {
			t.Errorf("part %d differs", i)
		}
		i++
	}
	if i != len(parts) {
		t.Errorf("%d parts, want %d", i, len(parts))
	}
}

func TestFragmentedLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		values [][]byte
		want   bool
	}{
		{"599 bytes", [][]byte{make([]byte, 300), make([]byte, 299)}, false},
		{"600 bytes", [][]byte{make([]byte, 300), make([]byte, 300)}, true},
		{"49 values", slices.Repeat([][]byte{{1}}, 49), false},
		{"50 values", slices.Repeat([][]byte{{1}}, 50), true},
	}
	for _, tt := range tests {
		var p wire.Packet
		if got := p.SetValues(tt.values); got != tt.want || len(p.Values) != len(tt.values) {
			t.Errorf("%s: fragmented = %v", tt.name, got)
		}
	}
}

func TestGroupUpdates(t *testing.T) {
	t.Parallel()
	k20 := make([]byte, 20<<10)
	var sizes []int
	for group := range wire.GroupUpdates([][]byte{k20, k20, k20, k20, k20, k20, k20}) {
		sizes = append(sizes, len(group))
	}
	if !slices.Equal(sizes, []int{3, 3, 1}) { // closed at 60 KiB, the first sum of 56 KiB or more
		t.Errorf("groups %v", sizes)
	}
	for group := range wire.GroupUpdates(nil) {
		t.Errorf("group of nothing: %v", group)
	}
}

// Part datagrams stay below what a 1500-byte link carries whole over IPv6 (§4.1).
func TestPartSize(t *testing.T) {
	t.Parallel()
	p := wire.Packet{Kind: wire.Put, TID: 1<<32 - 1, Network: 1<<32 - 1, Client: true}
	b := p.AppendPart(nil, wire.Piece{Index: 4095, Offset: 65567, Data: make([]byte, wire.PieceSize)})
	if len(b) > 1500-48 {
		t.Errorf("%d bytes", len(b))
	}
}
