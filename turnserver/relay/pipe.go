package relay

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pipeChunk = 256 << 10 // bytes between two looks at the meter
	// lingerHalf is how long the second direction of a pipe may last after the first has ended: enough for an answer to a
	// half-closed request.
	lingerHalf = 30 * time.Second
)

// Meter counts the bytes of a stream and says how long to wait before the next ones. It is called from one goroutine per direction.
type Meter func(n int) time.Duration

// Pipe carries bytes between client and peer until both directions have ended, one has failed, or ctx is done; then both connections are
// closed. An end of stream is passed on as such. It returns the bytes carried from the client (up) and to it (down).
//
// Should the process die meanwhile, both ends see a reset: to them the connection is dead, not ended. A Jami client (seen with 20230206)
// takes an end of stream for nothing, writes on, and finds out by a time-out of 30 s; a reset it notices at its next write.
func Pipe(ctx context.Context, client, peer net.Conn, upMeter, downMeter Meter) (up, down int64) {
	for _, conn := range []net.Conn{client, peer} {
		linger(conn, 0)
	}
	end := func() { Close(client); Close(peer) }
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var halves atomic.Int32
	direction := func(dst, src net.Conn, meter Meter, total *int64) {
		clean := carry(ctx, dst, src, meter, total)
		if !clean || !closeWrite(dst) {
			end()
			return
		}
		if halves.Add(1) == 1 {
			deadline := time.Now().Add(lingerHalf)
			client.SetDeadline(deadline)
			peer.SetDeadline(deadline)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { direction(client, peer, downMeter, &down) })
	direction(peer, client, upMeter, &up)
	wg.Wait()
	end()
	return up, down
}

// Close closes a connection that Pipe has or had, in order: what was written to it still arrives.
func Close(conn net.Conn) {
	linger(conn, -1)
	conn.Close()
}

// linger says what becomes of unsent bytes when conn is closed: 0 drops them and resets, -1 sends them in the background.
func linger(conn net.Conn, seconds int) {
	if tcp, ok := conn.(*net.TCPConn); ok {
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
		wait := meter(int(n))
		if err != nil {
			return false
		}
		if limited.N > 0 {
			return true
		}
		if wait > 0 && !sleep(ctx, wait) {
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

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
