package fake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// request is one HTTP/2 request, read whole.
type request struct {
	method, path string
	header       http.Header
	body         []byte
	peer         *tls.ConnectionState
	conn         *originConn
}

// response is the answer, sent delay after the request.
type response struct {
	status int
	header map[string]string
	body   []byte
	delay  time.Duration
	hang   bool   // never answer
	commit func() // what the request does, done when the answer goes out: a GOAWAY before then undoes it
}

// Limits are the connection-level rules of an origin.
type Limits struct {
	Streams uint32 // concurrent streams per connection; 0 means 1000
	Fresh   uint32 // the same until the first answer below 400; 0 means Streams
}

// origin is an HTTP/2 server over TLS in which the script can reach everything net/http's server hides. It keeps
// no goroutine per stream: an answer that is late is a timer.
type origin struct {
	handle func(*request) response
	limits Limits
	tls    *tls.Config

	mu    sync.Mutex
	conns map[*originConn]struct{}
	ended sync.WaitGroup
	most  int // streams at once on one connection, ever
	made  int // connections ever
}

// originConn is one connection. Fields below mu belong to it.
type originConn struct {
	o     *origin
	nc    *tls.Conn
	flush chan struct{}

	mu      sync.Mutex
	out     *bytes.Buffer // frames to send
	framer  *http2.Framer
	enc     *hpack.Encoder
	block   bytes.Buffer
	streams map[uint32]*originStream
	trusted bool // an answer below 400 was given
	leaving bool // GOAWAY sent
	last    uint32
	closed  bool
	// bearer and since are for rules about how often credentials may change.
	bearer string
	since  time.Time
}

type originStream struct {
	req *request
}

const maxOriginBody = 64 << 10

func newOrigin(cert tls.Certificate, l Limits, handle func(*request) response) *origin {
	if l.Streams == 0 {
		l.Streams = 1000
	}
	if l.Fresh == 0 {
		l.Fresh = l.Streams
	}
	return &origin{handle: handle, limits: l, conns: make(map[*originConn]struct{}), tls: &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert,
		MinVersion: tls.VersionTLS12,
	}}
}

// serve accepts connections until ln is closed or ctx is done, and returns when all have ended.
func (o *origin) serve(ctx context.Context, ln net.Listener) {
	stop := context.AfterFunc(ctx, func() { ln.Close(); o.closeAll() })
	defer stop()
	for {
		nc, err := ln.Accept()
		if err != nil {
			break
		}
		o.ended.Go(func() { o.serveConn(nc) }) // ends with the connection
	}
	o.closeAll()
	o.ended.Wait()
}

func (o *origin) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.nc.NetConn().Close()
	}
}

// serveConn speaks HTTP/2 on one connection until it ends.
func (o *origin) serveConn(nc net.Conn) {
	defer nc.Close()
	tc := tls.Server(nc, o.tls)
	if tc.Handshake() != nil {
		return
	}
	c := &originConn{o: o, nc: tc, flush: make(chan struct{}, 1), streams: make(map[uint32]*originStream)}
	c.out = new(bytes.Buffer)
	br := bufio.NewReaderSize(tc, 32<<10)
	c.framer = http2.NewFramer(outgoing{c}, br)
	c.framer.SetReuseFrames()
	c.enc = hpack.NewEncoder(&c.block)
	o.mu.Lock()
	o.conns[c] = struct{}{}
	o.made++
	o.mu.Unlock()
	var flusher sync.WaitGroup
	flusher.Go(c.flushLoop) // ends when flush is closed
	c.read(br)
	o.mu.Lock()
	delete(o.conns, c)
	o.mu.Unlock()
	c.mu.Lock()
	c.closed = true
	close(c.flush)
	c.mu.Unlock()
	flusher.Wait()
}

// outgoing writes to the connection's current buffer. The caller holds mu.
type outgoing struct{ c *originConn }

func (o outgoing) Write(p []byte) (int, error) { return o.c.out.Write(p) }

// flushLoop sends what has gathered, so that answers given at the same moment share a packet. It writes without
// the lock: the reader must go on while the client is slow to read.
func (c *originConn) flushLoop() {
	spare := new(bytes.Buffer)
	for range c.flush {
		c.mu.Lock()
		c.out, spare = spare, c.out
		gone := c.leaving && len(c.streams) == 0
		c.mu.Unlock()
		c.nc.Write(spare.Bytes()) // an error ends the reader too
		spare.Reset()
		if gone {
			c.nc.NetConn().Close()
		}
	}
}

// poke asks for a flush. The caller holds mu.
func (c *originConn) poke() {
	if c.closed {
		return
	}
	select {
	case c.flush <- struct{}{}:
	default:
	}
}

func (c *originConn) read(br *bufio.Reader) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(br, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	c.mu.Lock()
	c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.o.limits.Fresh})
	c.framer.WriteWindowUpdate(0, 1<<30)
	c.poke()
	c.mu.Unlock()
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil || !c.frame(f, dec) {
			return
		}
	}
}

// frame handles one frame and reports whether the connection goes on.
func (c *originConn) frame(f http2.Frame, dec *hpack.Decoder) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.framer.WriteSettingsAck()
			c.poke()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.framer.WritePing(true, f.Data)
			c.poke()
		}
	case *http2.RSTStreamFrame:
		delete(c.streams, f.StreamID)
	case *http2.HeadersFrame:
		return c.headers(f, dec)
	case *http2.DataFrame:
		s := c.streams[f.StreamID]
		if s == nil {
			return true
		}
		if len(s.req.body)+len(f.Data()) > maxOriginBody {
			return false
		}
		s.req.body = append(s.req.body, f.Data()...)
		if f.StreamEnded() {
			c.complete(f.StreamID, s)
		}
	}
	return true
}

func (c *originConn) headers(f *http2.HeadersFrame, dec *hpack.Decoder) bool {
	fields, err := dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil || !f.HeadersEnded() {
		return false // no client of ours sends that much
	}
	if c.leaving && f.StreamID > c.last {
		return true // passed over by the GOAWAY
	}
	limit := c.o.limits.Streams
	if !c.trusted {
		limit = c.o.limits.Fresh
	}
	if uint32(len(c.streams)) >= limit {
		c.framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
		c.poke()
		return true
	}
	state := c.nc.ConnectionState()
	req := &request{header: make(http.Header, len(fields)), peer: &state, conn: c}
	for _, h := range fields {
		switch h.Name {
		case ":method":
			req.method = h.Value
		case ":path":
			req.path = h.Value
		case ":authority":
			req.header.Set("Host", h.Value)
		default:
			if !strings.HasPrefix(h.Name, ":") {
				req.header.Add(h.Name, h.Value)
			}
		}
	}
	s := &originStream{req: req}
	c.streams[f.StreamID] = s
	c.o.saw(len(c.streams))
	c.last = max(c.last, f.StreamID)
	if f.StreamEnded() {
		c.complete(f.StreamID, s)
	}
	return true
}

func (o *origin) saw(streams int) {
	o.mu.Lock()
	o.most = max(o.most, streams)
	o.mu.Unlock()
}

// complete asks the handler and answers, now or later. The handler runs on the connection's reader and must not
// block; the caller holds mu.
func (c *originConn) complete(id uint32, s *originStream) {
	res := c.o.handle(s.req)
	if res.hang {
		return
	}
	if res.delay <= 0 {
		c.answer(id, res)
		return
	}
	time.AfterFunc(res.delay, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answer(id, res)
	})
}

// answer writes a response unless the stream is gone. The caller holds mu.
func (c *originConn) answer(id uint32, res response) {
	if c.streams[id] == nil || c.closed {
		return
	}
	delete(c.streams, id)
	if res.commit != nil {
		res.commit()
	}
	c.block.Reset()
	c.enc.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(res.status)})
	for name, value := range res.header {
		c.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(name), Value: value})
	}
	c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: len(res.body) == 0})
	if len(res.body) > 0 {
		c.framer.WriteData(id, true, res.body)
	}
	if res.status < 400 && !c.trusted {
		c.trusted = true
		if c.o.limits.Fresh != c.o.limits.Streams {
			c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.o.limits.Streams})
		}
	}
	c.poke()
}

// goAway bids every connection farewell. The first keep streams open on each are still answered, later ones are
// passed over, as a server does that is about to stop. debug is the opaque data, JSON at Apple's.
func (o *origin) goAway(keep int, debug string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		c.goAway(keep, debug)
	}
}

func (c *originConn) goAway(keep int, debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || c.closed {
		return
	}
	c.leaving = true
	var kept uint32
	for id := uint32(1); id <= c.last; id += 2 {
		if c.streams[id] == nil {
			continue
		}
		if keep--; keep >= 0 {
			kept = id
			continue
		}
		delete(c.streams, id)
	}
	c.last = kept
	c.framer.WriteGoAway(kept, http2.ErrCodeNo, []byte(debug))
	c.poke()
}

// open reports how many requests wait for an answer.
func (o *origin) open() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for c := range o.conns {
		c.mu.Lock()
		n += len(c.streams)
		c.mu.Unlock()
	}
	return n
}
