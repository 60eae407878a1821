package doctor

import (
	"context"
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
	c.step(ctx, "outside_tcp", func(ctx context.Context) (string, error) { return connectOutside(ctx, relay) })
}

// connectOutside connects from this host to the relayed address, and sends bytes both ways.
func connectOutside(ctx context.Context, relay *turnclient.TCPAllocation) (string, error) {
	began := time.Now()
	out, err := new(net.Dialer).DialContext(ctx, "tcp", relay.Addr().String())
	if err != nil {
		return "", relayError{err}
	}
	defer out.Close()
	deadline, _ := ctx.Deadline()
	_ = out.SetDeadline(deadline)
	if _, err := out.Write([]byte(ping)); err != nil {
		return "", relayError{err}
	}
	stop := context.AfterFunc(ctx, func() { relay.Close() }) // ends Accept
	defer stop()
	in, err := relay.Accept()
	if err != nil {
		return "", relayError{err}
	}
	defer in.Close()
	_ = in.SetDeadline(deadline)
	if err := carry(out, in); err != nil {
		return "", relayError{err}
	}
	return fmt.Sprintf("%v reached by TCP, %v there and back", relay.Addr(), time.Since(began).Round(10*time.Microsecond)), nil
}

func carry(out, in net.Conn) error {
	got := make([]byte, len(pong))
	if _, err := io.ReadFull(in, got[:len(ping)]); err != nil {
		return err
	}
	if _, err := in.Write([]byte(pong)); err != nil {
		return err
	}
	if _, err := io.ReadFull(out, got); err != nil {
		return err
	}
	if string(got) != pong {
		return fmt.Errorf("%q came back", got)
	}
	return nil
}
