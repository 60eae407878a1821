package distributor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// stream serves json and sse. Over HTTP/1.1 the connection is taken from the HTTP server, whose buffers and stack
// would cost more than everything else of an idle receiver; over HTTP/2 the handler stays.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, rec *receiver, pos position, limited, sse bool) {
	if r.ProtoMajor == 1 {
		s.streamRaw(w, r, rec, pos, limited, sse)
		return
	}
	streamHeader(w.Header(), sse)
	k := &flushSink{w: w, rc: http.NewResponseController(w), sse: sse, done: make(chan struct{})}
	rec.sink = k
	if err := s.hub.admit(rec, pos, limited); err != nil {
		refuseReceiver(w, err)
		return
	}
	select {
	case <-r.Context().Done():
	case <-k.done:
	}
	rec.close()
	k.mu.Lock() // a write under way ends before the handler does
	defer k.mu.Unlock()
	k.closed = true
}

// flushSink writes to a handler's ResponseWriter.
type flushSink struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sse  bool
	done chan struct{}
	once sync.Once

	mu     sync.Mutex
	closed bool
}

func (k *flushSink) write(event string, objects ...[]byte) error {
	var b []byte
	for _, o := range objects {
		b = appendFrame(b, k.sse, event, o)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return net.ErrClosed
	}
	if err := k.rc.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	if _, err := k.w.Write(b); err != nil {
		return err
	}
	return k.rc.Flush()
}

func (k *flushSink) close() { k.once.Do(func() { close(k.done) }) }

// streamRaw answers by hand: status, headers, and chunks (RFC 9112 §7.1).
func (s *Server) streamRaw(w http.ResponseWriter, r *http.Request, rec *receiver, pos position, limited, sse bool) {
	rc := http.NewResponseController(w)
	k := &chunkSink{sse: sse, chunked: r.ProtoAtLeast(1, 1), ready: make(chan struct{})}
	defer close(k.ready)
	rec.sink = k
	if err := s.hub.admit(rec, pos, limited); err != nil {
		refuseReceiver(w, err)
		return
	}
	conn, _, err := rc.Hijack()
	if err != nil {
		rec.close()
		refuse(w, http.StatusInternalServerError, "cannot stream")
		return
	}
	conn.SetDeadline(time.Time{})
	if k.attach(conn) != nil || k.head(w.Header()) != nil {
		rec.close()
		return
	}
	s.wg.Go(func() { drop(conn, rec) }) // ends with the connection
}

// drop waits until the client ends the connection. Whatever it sends before is not for us.
func drop(conn net.Conn, rec *receiver) {
	var b [1]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			rec.close()
			return
		}
	}
}

// chunkSink writes to a connection taken from the HTTP server.
type chunkSink struct {
	sse, chunked bool
	ready        chan struct{} // closed when the head is out: nothing may be written before

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// attach takes the connection, unless the stream was closed meanwhile.
func (k *chunkSink) attach(c net.Conn) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn = c
	if k.closed {
		return errors.Join(net.ErrClosed, c.Close())
	}
	return nil
}

func (k *chunkSink) head(h http.Header) error {
	streamHeader(h, k.sse)
	if k.chunked {
		h.Set("Transfer-Encoding", "chunked")
	} else {
		h.Set("Connection", "close")
	}
	b := []byte("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	for name, values := range h {
		for _, v := range values {
			b = append(b, name+": "+v+"\r\n"...)
		}
	}
	return k.send(append(b, "\r\n"...))
}

// chunkHead is room for a chunk's length in hexadecimal and CRLF.
const chunkHead = 18

func (k *chunkSink) write(event string, objects ...[]byte) error {
	n := chunkHead
	for _, o := range objects {
		n += len(o) + 40
	}
	b := make([]byte, chunkHead, n)
	for _, o := range objects {
		b = appendFrame(b, k.sse, event, o)
	}
	if k.chunked {
		var head [chunkHead]byte
		h := append(strconv.AppendInt(head[:0], int64(len(b)-chunkHead), 16), "\r\n"...)
		b = append(b, "\r\n"...)
		copy(b[chunkHead-len(h):], h)
		b = b[chunkHead-len(h):]
	} else {
		b = b[chunkHead:]
	}
	<-k.ready
	return k.send(b)
}

// send writes with the deadline that keeps a client that does not read from holding a goroutine.
func (k *chunkSink) send(b []byte) error {
	k.mu.Lock()
	conn := k.conn
	k.mu.Unlock()
	if conn == nil {
		return net.ErrClosed
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// close ends the stream. The last chunk is left out: the stream was cut, and clients come again.
func (k *chunkSink) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.conn != nil {
		k.conn.Close()
	}
}

// websocket serves ws: one text message per event.
func (s *Server) websocket(w http.ResponseWriter, r *http.Request, rec *receiver, pos position, limited bool) {
	k := &wsSink{ctx: s.hub.ctx, ready: make(chan struct{})}
	rec.sink = k
	if err := s.hub.admit(rec, pos, limited); err != nil {
		refuseReceiver(w, err)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // any origin may read a topic it knows, as with the other streams
		CompressionMode:    websocket.CompressionDisabled,
	})
	k.conn = c
	close(k.ready)
	if err != nil { // Accept has answered
		rec.close()
		return
	}
	c.SetReadLimit(1024) // receivers send nothing but control frames
	s.wg.Go(func() {     // ends with the connection
		c.Read(s.hub.ctx)
		rec.close()
	})
}

// wsSink writes to a WebSocket. conn is set once ready is closed, nil if the handshake failed.
type wsSink struct {
	ctx   context.Context // of the hub
	ready chan struct{}
	conn  *websocket.Conn
}

func (k *wsSink) write(_ string, objects ...[]byte) error {
	<-k.ready
	if k.conn == nil {
		return net.ErrClosed
	}
	for _, o := range objects {
		ctx, cancel := context.WithTimeout(k.ctx, writeLimit)
		err := k.conn.Write(ctx, websocket.MessageText, o)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *wsSink) close() {
	<-k.ready
	if k.conn != nil {
		k.conn.CloseNow()
	}
}
