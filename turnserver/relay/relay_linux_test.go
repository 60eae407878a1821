package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

func listen(t testing.TB, addr netip.AddrPort) *Socket {
	t.Helper()
	s, err := Listen(addr, SocketConfig{Buffer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func runLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := NewLoop(func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// echo answers each datagram with a header of two bytes, its length, before it.
type echo struct {
	s     *Socket
	hints map[netip.AddrPort]*Hint
}

func (e *echo) Packets(out *Out, pkts []Packet) {
	for _, p := range pkts {
		hint := e.hints[p.From]
		if hint == nil {
			hint = new(Hint)
			e.hints[p.From] = hint
		}
		for first := true; first || len(p.Buf) > 0; first = false {
			d := p.Next()
			head := out.Scratch(2)
			binary.BigEndian.PutUint16(head, uint16(len(d)))
			out.Add(e.s, p.From, hint, head, d, nil)
		}
	}
}

func TestLoopEchoesInOrder(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := runLoop(t)
		s := listen(t, netip.MustParseAddrPort(addr))
		if err := l.Add(s, &echo{s, map[netip.AddrPort]*Hint{}}); err != nil {
			t.Fatal(err)
		}
		c := dial(t, s.LocalAddr())
		const n = 300
		buf := make([]byte, 2000)
		for i := range n {
			if i%20 == 0 { // a window that no receive buffer overflows with
				for j := i; j < i+20; j++ {
					c.Write(bytes.Repeat([]byte{byte(j)}, 1+j%7*100))
				}
			}
			got, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			want := 1 + i%7*100
			if got != want+2 || int(binary.BigEndian.Uint16(buf)) != want || !bytes.Equal(buf[2:got], bytes.Repeat([]byte{byte(i)}, want)) {
				t.Fatalf("answer %d has %d bytes, want %d", i, got, want+2)
			}
		}
		c.Write(nil)
		if got, err := c.Read(buf); err != nil || got != 2 {
			t.Errorf("answer to an empty datagram: %d bytes, %v", got, err)
		}
		l.Remove(s)
	}
}

func TestOutTrains(t *testing.T) {
	src, dst := listen(t, loopback), listen(t, loopback)
	out := newOut()
	var hint Hint
	sizes := []int{100, 100, 100, 50, 100, 200, 0, 200, 200}
	for i, n := range sizes {
		out.Add(src, dst.LocalAddr(), &hint, nil, bytes.Repeat([]byte{byte(i)}, n), nil)
	}
	if out.n != 5 { // 100 100 100 50 | 100 | 200 | empty | 200 200
		t.Errorf("%d trains, want 5", out.n)
	}
	out.Flush()
	if out.Sent != uint64(len(sizes)) || out.Dropped != 0 {
		t.Errorf("sent %d, dropped %d; want %d, 0", out.Sent, out.Dropped, len(sizes))
	}
	in := NewIn(loopSlots)
	i := 0
	for _, p := range in.take(dst, loopSlots) {
		for first := true; first || len(p.Buf) > 0; first = false {
			if d := p.Next(); len(d) != sizes[i] || len(d) > 0 && d[0] != byte(i) {
				t.Errorf("datagram %d has %d bytes, want %d", i, len(d), sizes[i])
			}
			i++
		}
	}
	if i != len(sizes) {
		t.Errorf("%d datagrams came, want %d", i, len(sizes))
	}
}

// A train whose segments do not fit the path goes out as single datagrams.
func TestOutRefusedTrain(t *testing.T) {
	src, dst := listen(t, loopback), listen(t, loopback)
	out := newOut()
	var hint Hint
	for range 3 {
		out.Add(src, dst.LocalAddr(), &hint, []byte("head"), make([]byte, 500), nil)
	}
	for k := range out.n {
		out.prepare(k)
	}
	out.refused(src, 0, 22)
	if out.Sent != 3 || src.maxSegment.Load() != 503 {
		t.Errorf("sent %d, limit %d; want 3, 503", out.Sent, src.maxSegment.Load())
	}
	out.n, out.cycle = 0, cycles.Add(1)
	for range 2 {
		out.Add(src, dst.LocalAddr(), &hint, []byte("head"), make([]byte, 500), nil)
	}
	if out.n != 2 {
		t.Errorf("%d trains, want 2 singles", out.n)
	}
	out.Flush()
}

func TestClosedSocketDrops(t *testing.T) {
	src, dst := listen(t, loopback), listen(t, loopback)
	out := newOut()
	var hint Hint
	out.Add(src, dst.LocalAddr(), &hint, nil, []byte("x"), nil)
	src.Close()
	out.Flush()
	if out.Dropped != 1 {
		t.Errorf("dropped %d, want 1", out.Dropped)
	}
	if err := src.WriteTo([]byte("x"), dst.LocalAddr()); err == nil {
		t.Error("WriteTo on a closed socket succeeds")
	}
}

func TestOutOverflowsByFlushing(t *testing.T) {
	src, dst := listen(t, loopback), listen(t, loopback)
	out := newOut()
	hints := make([]Hint, 3*maxTrains)
	for i := range hints {
		b := out.Scratch(1000)
		out.Add(src, dst.LocalAddr(), &hints[i], b, nil, nil)
	}
	out.Flush()
	if out.Sent != uint64(len(hints)) {
		t.Errorf("sent %d, want %d", out.Sent, len(hints))
	}
}

func TestPoller(t *testing.T) {
	s := listen(t, loopback)
	p, err := s.Pollable()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	got := make(chan string, 10)
	go func() {
		for {
			if err := p.Receive(func(pkts []Packet) {
				for _, p := range pkts {
					got <- string(p.Next())
				}
			}); err != nil {
				done <- err
				return
			}
		}
	}()
	c := dial(t, s.LocalAddr())
	fmt.Fprint(c, "one")
	if m := <-got; m != "one" {
		t.Errorf("got %q", m)
	}
	s.Close()
	if err := <-done; err == nil {
		t.Error("Receive survives Close")
	}
}

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	x, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x.(*net.TCPConn), y.(*net.TCPConn)
}

func TestPipe(t *testing.T) {
	client, in := tcpPair(t)
	peer, far := tcpPair(t)
	none := func(int) time.Duration { return 0 }
	type result struct{ up, down int64 }
	done := make(chan result)
	go func() {
		up, down := Pipe(context.Background(), in, peer, none, none)
		done <- result{up, down}
	}()
	data := bytes.Repeat([]byte("jirani"), 200_000)
	go func() {
		client.Write(data)
		client.CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("peer got %d bytes, %v; want %d", len(got), err, len(data))
	}
	far.Write([]byte("thanks")) // after the client's end of stream
	far.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "thanks" {
		t.Errorf("client got %q, %v", got, err)
	}
	if r := <-done; r.up != int64(len(data)) || r.down != 6 {
		t.Errorf("Pipe = %d, %d; want %d, 6", r.up, r.down, len(data))
	}
}

func TestPipeEndsWithContext(t *testing.T) {
	client, in := tcpPair(t)
	peer, far := tcpPair(t)
	_ = far
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	none := func(int) time.Duration { return 0 }
	go func() { Pipe(ctx, in, peer, none, none); close(done) }()
	cancel()
	<-done
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection is still open")
	}
}

func TestForwardingDoesNotAllocate(t *testing.T) {
	s, c := listen(t, loopback), listen(t, loopback)
	e := &echo{s, map[netip.AddrPort]*Hint{c.LocalAddr(): {}}}
	in, out := NewIn(loopSlots), newOut()
	payload := make([]byte, 172)
	if n := testing.AllocsPerRun(100, func() {
		for range 16 {
			var h Hint
			out.Add(c, s.LocalAddr(), &h, nil, payload, nil)
		}
		out.Flush()
		e.Packets(out, in.take(s, loopSlots))
		out.Flush()
		in.Reset()
		in.take(c, loopSlots)
		in.Reset()
	}); n > 0 {
		t.Errorf("%v allocations per 16 packets, want 0", n)
	}
}
