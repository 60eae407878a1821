package udpio

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks echo 172-byte datagrams between two sockets of one process, 32 at a time, and report the CPU time of
// the whole process per datagram and direction, which compares where wall time on a shared machine does not.

const (
	benchBatch = 32
	benchSize  = 172
)

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/(2*benchBatch), "cpu-ns/datagram")
}

func benchmarkBatch(b *testing.B, cfg Config, segment int) {
	x, y := listen(b, loopback4, cfg), listen(b, loopback4, cfg)
	x.SetReadDeadline(time.Time{})
	y.SetReadDeadline(time.Time{})
	pass := func(from, to *Conn, ms, in []Message) {
		if _, err := from.WriteBatch(ms); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < benchBatch; {
			n, err := to.ReadBatch(in)
			if err != nil {
				b.Fatal(err)
			}
			for i := range in[:n] {
				for range in[i].Segments {
					got++
				}
			}
		}
	}
	out := func(to netip.AddrPort) []Message {
		ms := messages(benchBatch, benchSize)
		if segment > 0 {
			ms = messages(1, benchBatch*benchSize)
		}
		for i := range ms {
			ms[i].N, ms[i].Addr, ms[i].SegmentSize = len(ms[i].Buf), to, segment
		}
		return ms
	}
	toX, toY, in := out(x.LocalAddr()), out(y.LocalAddr()), messages(benchBatch, MaxDatagram)
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		pass(x, y, toY, in)
		pass(y, x, toX, in)
	}
	reportCPU(b, start)
}

func BenchmarkEchoBatch(b *testing.B)  { benchmarkBatch(b, Config{}, 0) }
func BenchmarkEchoGROGSO(b *testing.B) { benchmarkBatch(b, Config{GRO: true}, benchSize) }

func BenchmarkEchoNet(b *testing.B) {
	dial := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback4))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	x, y := dial(), dial()
	buf := make([]byte, MaxDatagram)
	pass := func(from, to *net.UDPConn, addr netip.AddrPort) {
		for range benchBatch {
			if _, err := from.WriteToUDPAddrPort(buf[:benchSize], addr); err != nil {
				b.Fatal(err)
			}
		}
		for range benchBatch {
			if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	ax, ay := x.LocalAddr().(*net.UDPAddr).AddrPort(), y.LocalAddr().(*net.UDPAddr).AddrPort()
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		pass(x, y, ay)
		pass(y, x, ax)
	}
	reportCPU(b, start)
}
