package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jirani/jirani/peer/turnclient"
)

// streams checks an allocation for connections, as Jami's clients use them (RFC 6062): a peer without an allocation connects to the relay.
func (c *turnCheck) streams(ctx context.Context) {
	var client *turnclient.Client
	var relay *turnclient.TCPAllocation
	if !c.step(ctx, "allocate_tcp", func(ctx context.Context) (detail string, err error) {
		if client, err = c.dial(ctx); err != nil {
			return "", err
		}
		if relay, err = client.AllocateTCP(ctx, turnclient.Options{}); err != nil {
			return "", err
		}
		return "relayed address " + relay.Addr().String(), relay.CreatePermission(ctx, relay.Mapped())
	}) {
		if client != nil {
			client.Close()
		}
		return
	}
	defer client.Close()
	c.step(ctx, "outside_tcp", func(ctx context.Context) (string, error) { return c.connectOutside(ctx, relay) })
}

// connectOutside connects from this host to the relayed address, and sends bytes both ways.
func (c *turnCheck) connectOutside(ctx context.Context, relay *turnclient.TCPAllocation) (string, error) {
	began := time.Now()
	out, err := c.Dial(ctx, "tcp", relay.Addr().String())
	if err != nil {
		return "", relayError{err}
	}
	defer out.Close()
	deadline, _ := ctx.Deadline()
	_ = out.SetDeadline(deadline)
	if _, err := out.Write([]byte(ping)); err != nil {
		return "", relayError{err}
	}
	back := make(chan error, 1)
	go func() { // ends with the bytes, a reset or the deadline
		err := expect(out, pong)
		if err != nil {
			relay.Close() // ends Accept
		}
		back <- err
	}()
	in, err := relay.Accept()
	if err != nil {
		return "", relayError{<-back}
	}
	defer in.Close()
	_ = in.SetDeadline(deadline)
	if err := expect(in, ping); err != nil {
		out.Close()
		<-back
		return "", relayError{err}
	}
	_, err = in.Write([]byte(pong))
	if err := errors.Join(err, <-back); err != nil {
		return "", relayError{err}
	}
	return fmt.Sprintf("%v reached by TCP, %v there and back", relay.Addr(), time.Since(began).Round(10*time.Microsecond)), nil
}

func expect(conn net.Conn, want string) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%q came through", got)
	}
	return nil
}
