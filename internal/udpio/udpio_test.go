package udpio

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	loopback4 = netip.MustParseAddrPort("127.0.0.1:0")
	loopback6 = netip.MustParseAddrPort("[::1]:0")
)

func listen(t testing.TB, addr netip.AddrPort, cfg Config) *Conn {
	t.Helper()
	c, err := Listen(t.Context(), addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func messages(n, size int) []Message {
	ms := make([]Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, size)
	}
	return ms
}

// readN reads until n messages came.
func readN(t *testing.T, c *Conn, n, size int) []Message {
	t.Helper()
	ms := messages(n, size)
	for got := 0; got < n; {
		k, err := c.ReadBatch(ms[got:])
		if err != nil {
			t.Fatalf("ReadBatch after %d of %d: %v", got, n, err)
		}
		got += k
	}
	return ms
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, addr := range []netip.AddrPort{loopback4, loopback6} {
		t.Run(addr.Addr().String(), func(t *testing.T) {
			a, b := listen(t, addr, Config{}), listen(t, addr, Config{})
			const n = 3*MaxBatch + 1
			out := messages(n, 16)
			for i := range out {
				out[i].N = copy(out[i].Buf, fmt.Sprintf("datagram %d", i))
				out[i].Addr = b.LocalAddr()
			}
			if k, err := a.WriteBatch(out); k != n || err != nil {
				t.Fatalf("WriteBatch = %d, %v", k, err)
			}
			for i, m := range readN(t, b, n, 64) {
				if !bytes.Equal(m.Payload(), out[i].Payload()) || m.Addr != a.LocalAddr() || m.Truncated {
					t.Fatalf("message %d = %q from %v", i, m.Payload(), m.Addr)
				}
			}
		})
	}
}

func TestDualStackUnmapsAddresses(t *testing.T) {
	t.Parallel()
	c := listen(t, netip.MustParseAddrPort("[::]:0"), Config{})
	peer := listen(t, loopback4, Config{})
	to := netip.AddrPortFrom(peer.LocalAddr().Addr(), c.LocalAddr().Port())
	if err := peer.WriteTo([]byte("4"), to); err != nil {
		t.Fatal(err)
	}
	m := readN(t, c, 1, 8)[0]
	if m.Addr != peer.LocalAddr() {
		t.Fatalf("source = %v, want %v", m.Addr, peer.LocalAddr())
	}
	if _, err := c.WriteBatch([]Message{m}); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, peer, 1, 8)[0]; string(got.Payload()) != "4" {
		t.Fatalf("answer = %q", got.Payload())
	}
}

func TestV6OnlyLeavesThePortToIPv4(t *testing.T) {
	t.Parallel()
	six := listen(t, netip.MustParseAddrPort("[::]:0"), Config{V6Only: true})
	four, err := Listen(t.Context(), netip.AddrPortFrom(netip.IPv4Unspecified(), six.LocalAddr().Port()), Config{})
	if err != nil {
		t.Fatalf("IPv4 on the same port: %v", err)
	}
	four.Close()
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	c := listen(t, loopback4, Config{})
	if _, err := Listen(t.Context(), c.LocalAddr(), Config{}); err == nil {
		t.Fatal("second Listen on the same port succeeded")
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{})
	if err := a.WriteTo([]byte("longer than four"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if m := readN(t, b, 1, 4)[0]; !b.features.Batch || !m.Truncated || string(m.Payload()) != "long" {
		if b.features.Batch {
			t.Fatalf("got %q, truncated %v", m.Payload(), m.Truncated)
		}
	}
}

func TestCloseAndDeadlineEndReads(t *testing.T) {
	t.Parallel()
	c := listen(t, loopback4, Config{})
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.ReadBatch(messages(1, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("past deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	if _, err := c.TryReadBatch(messages(1, 8)); !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("TryReadBatch on an empty socket: %v", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() { _, errs[0] = c.ReadBatch(messages(1, 8)) })
	wg.Go(func() { errs[1] = c.WaitRead() })
	c.Close()
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
	}
}

func TestWaitReadSeesWhatCameBefore(t *testing.T) {
	t.Parallel()
	a, b := listen(t, loopback4, Config{}), listen(t, loopback4, Config{})
	for i := range 100 {
		if err := a.WriteTo([]byte{byte(i)}, b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if err := b.WaitRead(); err != nil {
			t.Fatal(err)
		}
		ms := messages(2, 8)
		if n, err := b.TryReadBatch(ms); n != 1 || err != nil || ms[0].Buf[0] != byte(i) {
			t.Fatalf("TryReadBatch = %d, %v, %v", n, err, ms[0].Payload())
		}
	}
}

// Two senders and two readers on each of several connections; run with -race.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const each = 500
	c := listen(t, loopback4, Config{ReadBuffer: 1 << 20})
	var senders, readers sync.WaitGroup
	for range 2 {
		peer := listen(t, loopback4, Config{})
		for range 2 {
			senders.Go(func() {
				for range each {
					peer.WriteTo([]byte("x"), c.LocalAddr())
				}
			})
		}
	}
	var mu sync.Mutex
	got := 0
	for range 2 {
		readers.Go(func() {
			ms := messages(MaxBatch, 8)
			for {
				n, err := c.ReadBatch(ms)
				if err != nil {
					return
				}
				mu.Lock()
				if got += n; got == 4*each {
					c.Close()
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	readers.Wait()
	if uint64(got)+c.Drops() < 4*each && c.features.Drops {
		t.Fatalf("received %d of %d", got, 4*each)
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n, size int
		want    string
	}{
		{0, 0, "[]"}, {5, 0, "[abcde]"}, {5, 2, "[ab cd e]"}, {4, 2, "[ab cd]"}, {3, 7, "[abc]"}, {2, 2, "[ab]"},
	} {
		m := Message{Buf: []byte("abcdefgh"), N: tc.n, SegmentSize: tc.size}
		var got []string
		for s := range m.Segments {
			got = append(got, string(s))
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("Segments of %d by %d = %v, want %s", tc.n, tc.size, got, tc.want)
		}
	}
}

func TestListenGroupRefusesAPortInUse(t *testing.T) {
	first, err := ListenGroup(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 2, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer first[0].Close()
	defer first[1].Close()
	if second, err := ListenGroup(t.Context(), first[0].LocalAddr(), 2, Config{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second ListenGroup = %v, %v, want EADDRINUSE", second, err)
	}
}
