package turnclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pion/stun/v3"
)

// Timing says how long requests are waited for (RFC 8489 §6.2). Zero fields stand for the values of the RFC.
type Timing struct {
	RTO    time.Duration // on datagrams: wait after the first sending, doubled after each further one; 500ms
	Rc     int           // on datagrams: how often a request is sent, at most 16; 7
	Rm     int           // on datagrams: the wait after the last sending, in RTOs; 16
	Stream time.Duration // on streams, where nothing is repeated: wait in all; 39.5s
}

func (t Timing) orRFC() Timing {
	if t.RTO <= 0 {
		t.RTO = 500 * time.Millisecond
	}
	if t.Rc <= 0 {
		t.Rc = 7
	}
	if t.Rm <= 0 {
		t.Rm = 16
	}
	if t.Stream <= 0 {
		t.Stream = 39500 * time.Millisecond
	}
	return t
}

// waits returns how long to wait after each sending of a request.
func (t Timing) waits(stream bool) []time.Duration {
	if stream {
		return []time.Duration{t.Stream}
	}
	waits := make([]time.Duration, min(t.Rc, 16))
	for i := range waits {
		waits[i] = t.RTO << i
	}
	waits[len(waits)-1] = time.Duration(t.Rm) * t.RTO
	return waits
}

// transaction is a request that waits for its answer.
type transaction struct {
	method   stun.Method
	key      stun.MessageIntegrity
	answer   chan *stun.Message // takes one
	violated chan struct{}      // takes one: an answer without valid integrity came
}

// accept looks at an answer with the transaction's ID.
func (t *transaction) accept(m *stun.Message) {
	if m.Type.Method != t.method {
		return
	}
	if !authentic(m, t.key) {
		select {
		case t.violated <- struct{}{}:
		default:
		}
		return
	}
	select {
	case t.answer <- m:
	default: // a duplicate
	}
}

// exchange sends a request signed with key and waits for its answer, of either class.
type exchange func(ctx context.Context, m *stun.Message, key stun.MessageIntegrity) (*stun.Message, error)

// do makes a request with credentials, for which it has the server's realm and nonce sent when it lacks or has outlived them. An error
// answer comes as an *Error.
func (c *Client) do(ctx context.Context, via exchange, method stun.Method, attrs ...attribute) (*stun.Message, error) {
	for attempt := 1; ; attempt++ {
		m := message(method, stun.ClassRequest, attrs...)
		if c.cfg.Software != "" {
			m.Add(stun.AttrSoftware, []byte(c.cfg.Software))
		}
		key := c.auth.sign(m)
		resp, err := via(ctx, m, key)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", method, err)
		}
		if resp.Type.Class == stun.ClassSuccessResponse {
			if !understood(resp) {
				return nil, fmt.Errorf("%v: %w: unknown attribute", method, ErrMalformed)
			}
			return resp, nil
		}
		e := errorOf(resp)
		if attempt == maxAttempts || !c.auth.challenged(resp, e.Code, key) {
			return nil, e
		}
	}
}

// roundTrip is the exchange on the client's own connection.
func (c *Client) roundTrip(ctx context.Context, m *stun.Message, key stun.MessageIntegrity) (*stun.Message, error) {
	t := &transaction{m.Type.Method, key, make(chan *stun.Message, 1), make(chan struct{}, 1)}
	c.expect(m.TransactionID, t)
	defer c.forget(m.TransactionID)
	failure := ErrTimeout
	for _, wait := range c.cfg.Timing.waits(c.server.Transport.stream()) {
		if err := c.send(m.Raw); err != nil {
			return nil, err
		}
		resp, err := c.await(ctx, t, wait)
		switch {
		case errors.Is(err, ErrIntegrity): // RFC 8489 §9.2.5: on datagrams as if it had not come
			failure = err
		case err != nil || resp != nil:
			return resp, err
		}
	}
	return nil, errors.Join(failure, c.lastRefusal())
}

// await waits for the answer to one sending. It returns neither answer nor error when the time is over.
func (c *Client) await(ctx context.Context, t *transaction, wait time.Duration) (resp *stun.Message, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case resp := <-t.answer:
			return resp, nil
		case <-t.violated:
			if err = ErrIntegrity; c.server.Transport.stream() {
				return nil, err
			}
		case <-timer.C:
			return nil, err
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.lastRefusal())
		case <-c.done:
			return nil, c.err
		}
	}
}

// over is the exchange on a data connection, which nobody else reads yet. It reads no byte behind the answer: what follows is the peer's.
func (c *Client) over(conn net.Conn) exchange {
	return func(ctx context.Context, m *stun.Message, key stun.MessageIntegrity) (*stun.Message, error) {
		_ = conn.SetDeadline(time.Now().Add(c.cfg.Timing.Stream))
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		resp, err := converse(conn, m, key)
		if !stop() {
			return nil, ctx.Err()
		}
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			err = ErrTimeout
		}
		_ = conn.SetDeadline(time.Time{})
		return resp, err
	}
}

func converse(conn net.Conn, m *stun.Message, key stun.MessageIntegrity) (*stun.Message, error) {
	if _, err := conn.Write(m.Raw); err != nil {
		return nil, err
	}
	b, err := readFrame(conn, nil)
	if err != nil {
		return nil, err
	}
	resp, err := parse(b)
	switch {
	case err != nil:
		return nil, err
	case resp.TransactionID != m.TransactionID || resp.Type.Method != m.Type.Method:
		return nil, fmt.Errorf("%w: answer to another request", ErrMalformed)
	case !authentic(resp, key):
		return nil, ErrIntegrity
	}
	return resp, nil
}
