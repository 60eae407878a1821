package turnclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
)

const (
	writeTimeout  = 10 * time.Second // for a stream to take a frame; one that does not has broken
	closePatience = 2 * time.Second  // for the server to hear that an allocation is given back
	readBuffer    = 4 << 10          // bytes of a stream read at once
)

// Config says who asks and how. The zero value makes Binding requests.
type Config struct {
	Username, Password string // long-term credentials, or time-limited ones that were made from a shared secret; compared byte by byte
	Software           string // sent as SOFTWARE, at most 128 characters; "" sends none
	// TLS is for the transports TLS and DTLS. ServerName is the server's host unless set; nil trusts the system's authorities. DTLS heeds
	// ServerName, RootCAs, Certificates and InsecureSkipVerify only.
	TLS    *tls.Config
	Timing Timing
	// KeepAlive is the longest time between two Refresh requests of an allocation. 0 refreshes a minute before it expires, as Jami does;
	// less keeps the bindings of NATs in between alive and finds out sooner that the server has gone.
	KeepAlive time.Duration
	// Dial connects to the server, "tcp" or "udp"; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) validate() error {
	if len(c.Username) > 508 || len(c.Software) > 509 { // RFC 8489 §14.3, §14.14
		return errors.New("turnclient: user name or software is too long")
	}
	return nil
}

// receiver is the allocation that the server's unasked messages are for. It does not block and does not keep its arguments.
type receiver interface {
	indication(m *stun.Message)
	channelData(number uint16, data []byte)
	Close() error
}

// Client is a connection to a server. Close it when done.
type Client struct {
	cfg    Config
	server Server
	conn   net.Conn
	auth   credentials
	reader sync.WaitGroup
	done   chan struct{} // closed when the connection has ended
	err    error         // why; set before done is closed
	doubt  chan struct{} // takes one: ICMP says that nobody is there

	ignored atomic.Uint64
	refusal atomic.Pointer[error]

	writeMu sync.Mutex // held while a frame is written

	mu       sync.Mutex // guards what follows
	closed   bool
	pending  map[[stun.TransactionIDSize]byte]*transaction
	taken    bool     // there is an allocation, or one is being asked for
	receiver receiver // the allocation
}

// Dial connects to a server within ctx. It asks nothing yet: on UDP it cannot know whether somebody is there.
func Dial(ctx context.Context, server Server, cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	cfg.Timing = cfg.Timing.orRFC()
	c := &Client{cfg: cfg, server: server, done: make(chan struct{}), doubt: make(chan struct{}, 1),
		pending: make(map[[stun.TransactionIDSize]byte]*transaction)}
	c.auth.username, c.auth.password = cfg.Username, cfg.Password
	conn, err := connect(ctx, cfg, server, c.refused)
	if err != nil {
		return nil, errors.Join(err, c.lastRefusal())
	}
	c.conn = conn
	c.reader.Go(c.read)
	return c, nil
}

// Close gives the allocation back, if there is one, and ends the connection. It takes two seconds at most if the server is not there.
func (c *Client) Close() error {
	c.mu.Lock()
	allocation := c.receiver
	c.closed = true
	c.mu.Unlock()
	var err error
	if allocation != nil {
		err = allocation.Close()
	}
	c.conn.Close()
	c.reader.Wait()
	return err
}

// connectAgain makes another connection to the same address of the server.
func (c *Client) connectAgain(ctx context.Context) (net.Conn, error) {
	cfg, dial := c.cfg, c.cfg.Dial
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, c.conn.RemoteAddr().String())
	}
	return connect(ctx, cfg, c.server, c.refused)
}

// LocalAddr is this end of the connection to the server.
func (c *Client) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// ServerAddr is the other end.
func (c *Client) ServerAddr() net.Addr { return c.conn.RemoteAddr() }

// Ignored is how many frames of the server made no sense and were passed over.
func (c *Client) Ignored() uint64 { return c.ignored.Load() }

// Binding asks under which address the server sees this client (RFC 8489 §2). It needs no credentials.
func (c *Client) Binding(ctx context.Context) (netip.AddrPort, error) {
	m := message(stun.MethodBinding, stun.ClassRequest)
	_ = stun.Fingerprint.AddTo(m)
	resp, err := c.roundTrip(ctx, m, nil)
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%v: %w", stun.MethodBinding, err)
	case resp.Type.Class == stun.ClassErrorResponse:
		return netip.AddrPort{}, errorOf(resp)
	case !understood(resp):
		return netip.AddrPort{}, fmt.Errorf("%w: unknown attribute", ErrMalformed)
	}
	return address(resp, stun.AttrXORMappedAddress)
}

// refused notes what ICMP says. Errors are told to whoever runs out of time, and make the allocation ask whether the server is there.
func (c *Client) refused(err error) {
	c.refusal.Store(&err)
	select {
	case c.doubt <- struct{}{}:
	default:
	}
}

func (c *Client) lastRefusal() error {
	if p := c.refusal.Load(); p != nil {
		return *p
	}
	return nil
}

// take reserves the connection for one allocation.
func (c *Client) take() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case c.taken:
		return ErrInUse
	}
	c.taken = true
	return nil
}

// attach makes r the receiver of what comes unasked, unless the client has been closed meanwhile.
func (c *Client) attach(r receiver) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.receiver = r
	return nil
}

// free is for the next allocation.
func (c *Client) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken, c.receiver = false, nil
}

func (c *Client) expect(id [stun.TransactionIDSize]byte, t *transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[id] = t
	c.refusal.Store(nil)
}

func (c *Client) forget(id [stun.TransactionIDSize]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// send writes one frame.
func (c *Client) send(frame []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if !c.server.Transport.stream() {
		_, err := c.conn.Write(frame)
		return err
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(frame)
	if err != nil {
		c.conn.Close() // part of a frame may have gone
	}
	return err
}

// read is the goroutine that reads, until the connection ends.
func (c *Client) read() {
	err := c.frames()
	if err == io.EOF {
		err = fmt.Errorf("turnclient: the server has closed the connection: %w", io.ErrUnexpectedEOF)
	}
	c.mu.Lock()
	if c.closed {
		err = net.ErrClosed
	}
	c.mu.Unlock()
	c.err = err
	close(c.done)
	c.conn.Close()
}

func (c *Client) frames() error {
	if c.server.Transport.stream() {
		r := bufio.NewReaderSize(c.conn, readBuffer)
		for buf := []byte(nil); ; {
			frame, err := readFrame(r, buf)
			if err != nil {
				return err
			}
			c.frame(frame)
			buf = frame
		}
	}
	buf := make([]byte, maxFrame)
	for {
		n, err := c.conn.Read(buf)
		switch {
		case err == nil:
			c.frame(buf[:n])
		case c.server.Transport == DTLS && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
			c.ignored.Add(1) // the library tells of each record that it does not like, which anybody can send
		default:
			return err
		}
	}
}

// frame handles what is one message or should be.
func (c *Client) frame(b []byte) {
	if number, data, ok := channelData(b); ok {
		if r := c.owner(); r != nil {
			r.channelData(number, data)
		}
		return
	}
	m, err := parse(b)
	if err != nil {
		c.ignored.Add(1)
		return
	}
	switch m.Type.Class {
	case stun.ClassIndication:
		if r := c.owner(); r != nil && understood(m) {
			r.indication(m)
		}
	case stun.ClassSuccessResponse, stun.ClassErrorResponse:
		c.mu.Lock()
		t := c.pending[m.TransactionID]
		c.mu.Unlock()
		if t == nil {
			c.ignored.Add(1) // also what comes twice
			return
		}
		t.accept(m)
	default:
		c.ignored.Add(1) // a server asks nothing
	}
}

func (c *Client) owner() receiver {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.receiver
}
