package udpio

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPacketInfoAnswersFromTheAddressAddressed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ wildcard, client, to string }{
		{"0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"},
		{"[::]:0", "127.0.0.1:0", "127.0.0.3"},
		{"[::]:0", "[::1]:0", "::1"},
	} {
		t.Run(tc.wildcard+" "+tc.to, func(t *testing.T) {
			c := listen(t, netip.MustParseAddrPort(tc.wildcard), Config{PacketInfo: true})
			client := listen(t, netip.MustParseAddrPort(tc.client), Config{})
			to := netip.AddrPortFrom(netip.MustParseAddr(tc.to), c.LocalAddr().Port())
			if err := client.WriteTo([]byte("?"), to); err != nil {
				t.Fatal(err)
			}
			ms := readN(t, c, 1, 8)
			if ms[0].Local != to.Addr() {
				t.Fatalf("Local = %v, want %v", ms[0].Local, to.Addr())
			}
			if _, err := c.WriteBatch(ms); err != nil {
				t.Fatal(err)
			}
			if got := readN(t, client, 1, 8)[0].Addr; got != to {
				t.Fatalf("answer came from %v, want %v", got, to)
			}
		})
	}
}

// train is n datagrams of size bytes, the last one shorter.
func train(n, size int) Message {
	b := make([]byte, 0, n*size)
	for i := range n {
		b = append(b, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	b = b[:len(b)-1]
	return Message{Buf: b, N: len(b), SegmentSize: size}
}

func segmentsOf(ms []Message) (all []string) {
	for i := range ms {
		for s := range ms[i].Segments {
			all = append(all, fmt.Sprintf("%d×%d", len(s), s[0]))
		}
	}
	return all
}

func TestSegmentedWriteArrivesAsDatagrams(t *testing.T) {
	t.Parallel()
	for _, noGSO := range []bool{false, true} {
		t.Run(fmt.Sprintf("noGSO=%v", noGSO), func(t *testing.T) {
			a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{})
			a.write.noGSO = a.write.noGSO || noGSO
			m := train(10, 100)
			m.Addr = b.LocalAddr()
			plain := Message{Buf: []byte("\xffplain"), N: 6, Addr: b.LocalAddr()}
			if n, err := a.WriteBatch([]Message{plain, m, plain}); n != 3 || err != nil {
				t.Fatalf("WriteBatch = %d, %v", n, err)
			}
			got := segmentsOf(readN(t, b, 12, 2000))
			want := segmentsOf([]Message{plain, m, plain})
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// sizes of a batch, with the destination each goes to: a to one, b to another.
func TestJoinedWritesArriveApart(t *testing.T) {
	t.Parallel()
	from := listen(t, loopback4, Config{})
	to := map[byte]*Conn{'a': listen(t, loopback4, Config{}), 'b': listen(t, loopback4, Config{})}
	var ms []Message
	want := map[byte][]int{}
	for _, part := range []struct {
		to    byte
		sizes []int
	}{{'a', []int{100, 100, 100, 40, 40}}, {'b', []int{40, 40}}, {'a', []int{0, 100, 0, 2000, 2000, 1400, 1400}},
		{'b', slices.Repeat([]int{1300}, 60)}, {'a', slices.Repeat([]int{1}, 100)}} {
		for _, n := range part.sizes {
			ms = append(ms, Message{Buf: bytes.Repeat([]byte{byte(len(ms))}, n), N: n, Addr: to[part.to].LocalAddr()})
			want[part.to] = append(want[part.to], n)
		}
	}
	if n, err := from.WriteBatch(ms); n != len(ms) || err != nil {
		t.Fatalf("WriteBatch = %d of %d, %v", n, len(ms), err)
	}
	for name, c := range to {
		var got []int
		for _, m := range readN(t, c, len(want[name]), 4096) {
			got = append(got, m.N)
		}
		if !slices.Equal(got, want[name]) {
			t.Errorf("%c received %v, want %v", name, got, want[name])
		}
	}
}

func TestRefusedTrainGoesAlone(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{})
	refusals := 0
	plain := a.write.f
	a.write.f = func(fd uintptr) bool { // as if the first train had met a small MTU
		if refusals++; refusals == 1 {
			a.write.alone = 5
		}
		return plain(fd)
	}
	ms := make([]Message, 8)
	for i := range ms {
		ms[i] = Message{Buf: []byte{byte(i), 0}, N: 2, Addr: b.LocalAddr()}
	}
	if n, err := a.WriteBatch(ms); n != 8 || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	for i, m := range readN(t, b, 8, 8) {
		if m.Buf[0] != byte(i) {
			t.Fatalf("place %d holds %d", i, m.Buf[0])
		}
	}
	if !refusedSegments(unix.EINVAL) || refusedSegments(unix.ENETUNREACH) {
		t.Fatal("refusedSegments")
	}
}

func TestJoinedReadSplitsBack(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{GRO: true})
	if !a.Features().GSO || !b.Features().GRO {
		t.Skip("this kernel has no UDP_SEGMENT or UDP_GRO")
	}
	m := train(20, 1000)
	m.Addr = b.LocalAddr()
	if _, err := a.WriteBatch([]Message{m}); err != nil {
		t.Fatal(err)
	}
	ms := readN(t, b, 1, MaxDatagram)
	if ms[0].SegmentSize != 1000 || ms[0].Addr != a.LocalAddr() {
		t.Fatalf("SegmentSize = %d from %v", ms[0].SegmentSize, ms[0].Addr)
	}
	if got, want := segmentsOf(ms), segmentsOf([]Message{m}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func TestWriteErrorNamesTheMessage(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{})
	ok := Message{Buf: []byte("ok"), N: 2, Addr: b.LocalAddr()}
	for name, tc := range map[string]struct {
		bad  Message
		want error
	}{
		"too long":     {Message{Buf: make([]byte, 65530), N: 65530, Addr: b.LocalAddr()}, unix.EMSGSIZE},
		"other family": {Message{Buf: []byte("x"), N: 1, Addr: loopback6}, unix.EAFNOSUPPORT},
		"no address":   {Message{Buf: []byte("x"), N: 1}, unix.EAFNOSUPPORT},
	} {
		n, err := a.WriteBatch([]Message{ok, ok, tc.bad, ok})
		if n != 2 || !errors.Is(err, tc.want) {
			t.Errorf("%s: WriteBatch = %d, %v; want 2, %v", name, n, err, tc.want)
		}
		readN(t, b, 2, 8)
	}
}

func TestGroupSharesThePort(t *testing.T) {
	t.Parallel()
	group, err := ListenGroup(t.Context(), loopback4, 3, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range group {
		defer c.Close()
		if c.LocalAddr() != group[0].LocalAddr() {
			t.Fatalf("%v and %v", c.LocalAddr(), group[0].LocalAddr())
		}
	}
	const flows = 64
	for range flows {
		if err := listen(t, loopback4, Config{}).WriteTo([]byte("x"), group[0].LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	total, busy := 0, 0
	for _, c := range group {
		n, err := c.TryReadBatch(messages(MaxBatch, 8))
		if err == nil {
			busy++
		}
		total += n
	}
	if total != flows || busy < 2 {
		t.Fatalf("%d datagrams over %d sockets, want %d over several", total, busy, flows)
	}
}

func TestDropsAreCounted(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{ReadBuffer: 4096})
	const sent = 1000
	for range sent {
		if err := a.WriteTo(make([]byte, 512), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for {
		n, err := b.TryReadBatch(messages(MaxBatch, 512))
		if err != nil {
			break
		}
		got += n
	}
	if d := b.Drops(); d == 0 || int(d)+got != sent {
		t.Fatalf("%d received and %d dropped of %d", got, d, sent)
	}
}

func TestReadBufferIsGranted(t *testing.T) {
	t.Parallel()
	small, large := listen(t, loopback4, Config{ReadBuffer: 8 << 10}), listen(t, loopback4, Config{ReadBuffer: 128 << 10})
	if s, l := small.ReadBufferSize(), large.ReadBufferSize(); s <= 0 || s >= l {
		t.Fatalf("sizes %d and %d", s, l)
	}
}

func TestNoAllocationPerDatagram(t *testing.T) {
	a, b := listen(t, loopback4, Config{PacketInfo: true}), listen(t, loopback4, Config{PacketInfo: true, GRO: true})
	out, in := messages(32, 64), messages(32, 2048)
	for i := range out {
		out[i].N, out[i].Addr = 64, b.LocalAddr()
	}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := a.WriteBatch(out); err != nil {
			t.Fatal(err)
		}
		a.WriteTo(out[0].Buf, b.LocalAddr())
		for got := 0; got < 33; {
			n, err := b.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			for i := range in[:n] {
				for range in[i].Segments {
					got++
				}
			}
		}
	})
	if allocs > 1 { // the pool may be emptied by a collection
		t.Fatalf("%v allocations per 33 datagrams", allocs)
	}
}

func FuzzParseControl(f *testing.F) {
	var buf [controlSize]byte
	f.Add(buf[:writeControl(&buf, netip.MustParseAddr("::1"), 1200, true)])
	f.Add(buf[:writeControl(&buf, netip.MustParseAddr("127.0.0.1"), 0, false)])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= controlSize {
			parseControl(append(make([]byte, 0, controlSize), b...))
		}
	})
}
