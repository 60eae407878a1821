package nameserver

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// idleGoal is how many idle connections a server is to bear.
const idleGoal = 50_000

// BenchmarkIdleConnections opens 50,000 connections to a server in a process
// of its own, or as many as the file limit (ulimit -n) lets either process
// have, makes one request on each and keeps it. It reports the growth of the
// server's resident memory for each; the kernel's buffers are not in it.
func BenchmarkIdleConnections(b *testing.B) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	n := min(idleGoal, int(limit.Cur)-500)
	c := startChild(b, append(engines[0].settings(b), "limits.idle=1h", fmt.Sprintf("limits.connections=%d", n+100))...)
	before := c.resident(b)
	for b.Loop() {
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = holdOpen(b, c.base[len("http://"):], i)
		}
		b.ReportMetric(float64(c.resident(b)-before)/float64(n)/1024, "KiB/conn")
		b.ReportMetric(float64(n), "conns")
		for _, conn := range conns {
			conn.Close()
		}
	}
}

// holdOpen makes one request on a new connection. Connections come from
// several loopback addresses, each of which has 28,000 ports.
func holdOpen(b *testing.B, addr string, i int) net.Conn {
	b.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/20_000))}}
	conn, err := d.DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatalf("connection %d: %v", i, err)
	}
	if _, err := io.WriteString(conn, "GET /name/nobody HTTP/1.1\r\nHost: ns\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1024)); err != nil {
		b.Fatalf("connection %d: %v", i, err)
	}
	return conn
}

// resident returns the server's resident memory in bytes (proc(5), statm).
func (c *child) resident(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.cmd.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(b)[1]))
	if err != nil {
		tb.Fatal(err)
	}
	return pages * os.Getpagesize()
}
