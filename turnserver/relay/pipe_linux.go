package relay

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jirani/jirani/internal/wait"
)

const (
	pipeChunk = 256 << 10 // bytes between two looks at the meter
	// lingerHalf is how long the second direction of a pipe may last after the first has ended: enough for an answer to a
	// half-closed request.
	lingerHalf = 30 * time.Second
	drainTime  = 2 * time.Second // for what was written to arrive, before a reset drops the rest
	drainPoll  = 10 * time.Millisecond
)

// Meter counts the bytes of a stream and says how long to wait before the next ones. It is called from one goroutine per direction.
type Meter func(n int) time.Duration

// Pipe carries bytes between client and peer until both directions have ended, one has failed, or ctx is done; then both connections are
// closed. An end of stream is passed on as such. Any other end resets both connections, after what was written to them has arrived or
// two seconds have passed. It returns the bytes carried from the client (up) and to it (down).
//
// A Jami client (seen with 20230206) takes an end of stream for nothing, writes on into the void, and finds out by a time-out of 30 s; a
// reset it notices at its next write. For the same reason both ends see a reset should the process die meanwhile.
func Pipe(ctx context.Context, client, peer net.Conn, upMeter, downMeter Meter) (up, down int64) {
	for _, conn := range []net.Conn{client, peer} {
		linger(conn, 0)
	}
	e := &ending{conns: []net.Conn{client, peer}}
	stop := context.AfterFunc(ctx, e.fail)
	direction := func(dst, src net.Conn, meter Meter, total *int64) {
		if carry(ctx, dst, src, meter, total) && closeWrite(dst) {
			e.half()
		} else {
			e.fail()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { direction(client, peer, downMeter, &down) })
	direction(peer, client, upMeter, &up)
	wg.Wait()
	stop()
	e.close()
	return up, down
}

// ending is how a pipe ends.
type ending struct {
	conns []net.Conn

	mu     sync.Mutex
	halves int
	failed bool
}

// half is told that one direction has ended in order.
func (e *ending) half() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.halves++; e.halves == 1 && !e.failed {
		e.deadline(time.Now().Add(lingerHalf))
	}
}

// fail ends both directions.
func (e *ending) fail() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = true
	e.deadline(time.Unix(1, 0))
}

func (e *ending) deadline(t time.Time) {
	for _, c := range e.conns {
		c.SetDeadline(t)
	}
}

// close closes the connections when nothing is carried any more.
func (e *ending) close() {
	e.mu.Lock()
	inOrder := !e.failed
	e.mu.Unlock()
	if inOrder {
		for _, c := range e.conns {
			linger(c, -1)
			c.Close()
		}
		return
	}
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	deadline := time.Now().Add(drainTime)
	for left := slices.Clone(e.conns); ; <-tick.C {
		left = slices.DeleteFunc(left, func(c net.Conn) bool {
			if unsent(c) && time.Now().Before(deadline) {
				return false
			}
			beneath(c).Close()
			return true
		})
		if len(left) == 0 {
			return
		}
	}
}

// beneath returns the transport's connection under TLS, which a reset is of.
func beneath(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}

// linger says what becomes of unsent bytes when conn is closed: 0 drops them and resets, -1 sends them in the background.
func linger(conn net.Conn, seconds int) {
	if tcp, ok := beneath(conn).(*net.TCPConn); ok {
		_ = tcp.SetLinger(seconds) // fails on a closed connection only
	}
}

var pipeBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// carry copies one direction and reports whether it ended with an end of stream. Between two TCP connections package net splices.
func carry(ctx context.Context, dst, src net.Conn, meter Meter, total *int64) bool {
	limited := &io.LimitedReader{R: src}
	for {
		limited.N = pipeChunk
		n, err := copyChunk(dst, limited)
		*total += n
		delay := meter(int(n))
		if err != nil {
			return false
		}
		if limited.N > 0 {
			return true
		}
		if delay > 0 && wait.For(ctx, delay) != nil {
			return false
		}
	}
}

func copyChunk(dst net.Conn, src *io.LimitedReader) (int64, error) {
	_, tcpDst := dst.(*net.TCPConn)
	_, tcpSrc := src.R.(*net.TCPConn)
	if tcpDst && tcpSrc {
		return dst.(*net.TCPConn).ReadFrom(src)
	}
	buf := pipeBuffers.Get().(*[32 << 10]byte)
	defer pipeBuffers.Put(buf)
	// The wrapping keeps io.CopyBuffer from a ReadFrom that would make a buffer of its own.
	return io.CopyBuffer(struct{ io.Writer }{dst}, src, buf[:])
}

func closeWrite(c net.Conn) bool {
	half, ok := c.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

const tcpClose = 7 // TCP_CLOSE of linux/tcp_states.h

// unsent reports whether the other end of a living connection has yet to acknowledge bytes written to it, or their end.
func unsent(c net.Conn) (yes bool) {
	tcp, ok := beneath(c).(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State != tcpClose && (info.Unacked > 0 || info.Notsent_bytes > 0)
	})
	return yes && err == nil
}
