//go:build linux && amd64

package upstart

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/integration/wallclock"
	"github.com/jirani/jirani/internal/natlab"
)

// TestClockSet sets the clock of a running network an hour back, then an hour ahead, then right, and starts it again with a clock that is
// behind its own state. Each time everything from before is still served, and everything new: names, DHT values, messages for phones, the
// relayed conversation that had begun and one that begins.
func TestClockSet(t *testing.T) {
	natlab.Require(t)
	c := &clockwork{t: t, lab: newLab(t), names: []string{"before"}}
	dir := t.TempDir()
	up, clock := c.start(dir, 0)
	if status := register(t, c.lab.Host("alice"), natlab.LANServerAddr, "before"); status != 200 {
		t.Fatalf("register = %d\n%s", status, up.output())
	}
	c.relayed = c.allocate()
	for _, off := range []time.Duration{-time.Hour, time.Hour, 0} {
		if err := clock.Set(off); err != nil {
			t.Fatal(err)
		}
		c.serves(up, fmt.Sprintf("off-by-%d", off/time.Minute))
	}
	c.relayed.Close()
	if code := up.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code = %d\n%s", code, up.output())
	}
	up, _ = c.start(dir, -2*time.Hour)
	c.relayed = c.allocate()
	c.serves(up, "behind")
	up.end(syscall.SIGTERM)
}

// clockwork is a network under a clock that is set, and what has been given to it so far.
type clockwork struct {
	t       *testing.T
	lab     *natlab.Lab
	names   []string
	relayed net.PacketConn // an allocation that lives on
}

// start starts a network whose clock is off.
func (c *clockwork) start(dir string, off time.Duration) (*running, *wallclock.Clock) {
	var clock *wallclock.Clock
	up := launchBy(c.t, c.lab, "server", dir, func(cmd *exec.Cmd) error {
		started := make(chan error, 1)
		go c.lab.Host("server").Do(func() error { // the thread lives as long as the network
			var err error
			if clock, err = wallclock.Start(cmd); err == nil {
				err = clock.Set(off)
			}
			started <- err
			if err == nil {
				<-c.t.Context().Done()
			}
			return nil
		})
		return <-started
	})
	c.t.Cleanup(func() { clock.Close() })
	up.await("started")
	return up, clock
}

// serves registers a name, puts a value, leaves a message and relays, all named label, and asks for what it was given before.
func (c *clockwork) serves(up *running, label string) {
	t, alice := c.t, c.lab.Host("alice")
	t.Helper()
	if status := register(t, alice, natlab.LANServerAddr, label); status != 200 {
		t.Errorf("%s: register = %d\n%s", label, status, up.output())
	}
	c.names = append(c.names, label)
	known(t, alice, natlab.LANServerAddr, c.names...)
	server := netip.AddrPortFrom(natlab.LANServerAddr, 4222).String()
	c.tool("dht", "put", "-b", server, label, "value of "+label)
	if got := c.tool("dht", "get", "-b", server, label); !strings.Contains(got, "value of "+label) {
		t.Errorf("%s: DHT has %q", label, got)
	}
	c.message(label)
	c.converse(label, c.relayed)
	fresh := c.allocate()
	c.converse(label, fresh)
	fresh.Close()
	poll(t, func() error {
		_, body, err := get(t, alice, serverURL(8000, "/v1/card"))
		if err != nil || strings.Contains(string(body), `"error":"`) && !strings.Contains(string(body), `"error":""`) {
			return fmt.Errorf("%s: the card says %s %v", label, body, err)
		}
		return nil
	})
}

// tool runs jirani on alice's machine, whose clock is right, and returns its output.
func (c *clockwork) tool(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program.Build(c.t, "jirani"), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := c.lab.Host("alice").Start(cmd); err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		c.t.Errorf("jirani %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// message leaves a message for a phone, which fetches all that wait for it.
func (c *clockwork) message(text string) {
	c.t.Helper()
	alice := c.lab.Host("alice")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: alice.DialContext, DisableKeepAlives: true}}
	res, err := client.Post(serverURL(8089, "/upClock"), "text/plain", strings.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	_, waiting, err := get(c.t, alice, serverURL(8089, "/upClock/json?poll=1&since=all"))
	if err != nil || res.StatusCode != 200 || !strings.Contains(string(waiting), text) {
		c.t.Errorf("message %s: status %d, then %s %v", text, res.StatusCode, waiting, err)
	}
}

// allocate begins to use the relay.
func (c *clockwork) allocate() net.PacketConn {
	c.t.Helper()
	alice := c.lab.Host("alice")
	conn, err := alice.ListenPacket(netip.AddrPortFrom(alice.Addr, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	relay := netip.AddrPortFrom(natlab.LANServerAddr, 3478).String()
	client, err := turn.NewClient(&turn.ClientConfig{STUNServerAddr: relay, TURNServerAddr: relay, Conn: conn, Username: "ring",
		Password: "ring", Realm: "ring", LoggerFactory: logging.NewDefaultLoggerFactory()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		c.t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		c.t.Fatal(err)
	}
	return relayed
}

// converse sends a datagram to bob through the relay, and his answer back.
func (c *clockwork) converse(label string, relayed net.PacketConn) {
	c.t.Helper()
	machine := c.lab.Host("bob")
	bob, err := machine.ListenPacket(netip.AddrPortFrom(machine.Addr, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	defer bob.Close()
	deadline := time.Now().Add(patience)
	bob.SetDeadline(deadline)
	relayed.SetDeadline(deadline)
	buf := make([]byte, 1500)
	if _, err := relayed.WriteTo([]byte("how late is it?"), bob.LocalAddr()); err != nil {
		c.t.Fatalf("%s: relay: %v", label, err)
	}
	n, from, err := bob.ReadFrom(buf)
	if err == nil {
		_, err = bob.WriteTo(buf[:n], from)
	}
	if err == nil {
		n, _, err = relayed.ReadFrom(buf)
	}
	if err != nil || string(buf[:n]) != "how late is it?" {
		c.t.Errorf("%s: relayed %q, %v", label, buf[:n], err)
	}
}
