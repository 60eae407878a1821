package dhtnode

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// mirror is a socket behind which a dozen nodes answer at once, on a clock of the test's.
type mirror struct {
	now     time.Time
	n       *Node
	rd      *reader
	waiting []udpio.Message
	listens int
	sent    int
}

func (m *mirror) ReadBatch([]udpio.Message) (int, error) { select {} }
func (m *mirror) LocalAddr() netip.AddrPort              { return netip.MustParseAddrPort("192.0.2.1:4222") }
func (m *mirror) SetReadDeadline(time.Time) error        { return nil }
func (m *mirror) WriteBatch(ms []udpio.Message) (int, error) {
	for _, msg := range ms {
		m.sent++
		var q wire.Packet
		if q.Parse(msg.Buf[:msg.N]) != nil || !q.Kind.IsRequest() {
			continue
		}
		if q.Kind == wire.Listen {
			m.listens++
		}
		a := wire.Packet{Kind: wire.Reply, TID: q.TID, ID: dht.HashText(msg.Addr.String()), PublicAddr: m.LocalAddr().Addr(),
			Token: make([]byte, 32)}
		b := a.Append(nil)
		m.waiting = append(m.waiting, udpio.Message{Buf: b, N: len(b), Addr: msg.Addr})
	}
	return len(ms), nil
}

// pass lets time go by, delivering every answer at once.
func (m *mirror) pass(d time.Duration) {
	end := m.now.Add(d)
	for {
		for len(m.waiting) > 0 {
			k := min(len(m.waiting), udpio.MaxBatch)
			batch := m.waiting[:k:k]
			m.waiting = m.waiting[k:]
			m.rd.batch(batch)
		}
		at, ok := m.n.agenda.next()
		if !ok || at.After(end) {
			m.now = end
			return
		}
		m.now = later(at, m.now)
		m.n.turn(func(now time.Time) { m.n.agenda.run(now) })
	}
}

func newMirror(tb testing.TB) *mirror {
	tb.Helper()
	m := &mirror{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	if m.n, err = New(Config{ID: dht.HashText("me")}, Deps{Conns: []Conn{m}, Now: func() time.Time { return m.now }}); err != nil {
		tb.Fatal(err)
	}
	m.rd = newReader(m.n, 0)
	tb.Cleanup(func() { freeRoom(m.rd.room) })
	for i := range 12 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 4222)
		m.n.AddNode(dht.NodeAddr{ID: dht.HashText(addr.String()), Addr: addr})
	}
	m.pass(time.Minute)
	return m
}

func (m *mirror) listen(tb testing.TB, count int) {
	tb.Helper()
	for i := range count {
		if _, err := m.n.Listen(dht.HashText(fmt.Sprint(i)), dht.Query{}, func(Event) {}); err != nil {
			tb.Fatal(err)
		}
	}
	m.pass(time.Minute)
}

// TestManyLocalListens: each listen is renewed with its four nodes every 20 s, and nothing else is sent for it until its tokens
// age, however many there are.
func TestManyLocalListens(t *testing.T) {
	const count = 2000
	m := newMirror(t)
	m.listen(t, count)
	m.listens, m.sent = 0, 0
	m.pass(time.Minute)
	if want := 3 * listenNodes * count; m.listens != want || m.sent > want+100 {
		t.Errorf("%d listens and %d datagrams in a minute, want %d listens", m.listens, m.sent, want)
	}
}

// BenchmarkLocalListens: what one renewal of one listen with one node costs, answer included, with so many listens on the node. It
// should hardly depend on their number: only memory is farther away. One operation is 20 s of the node's life.
func BenchmarkLocalListens(b *testing.B) {
	for _, count := range []int{100, 1000, 5000, 20000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			m := newMirror(b)
			m.listen(b, count)
			m.listens = 0
			for b.Loop() {
				m.pass(renewAfter)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(m.listens), "ns/renewal")
		})
	}
}
