package bootstrapfault

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/integration/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// server is a running jirani-bootstrap on free ports of loopback.
type server struct{ *program.Process }

// launch starts the program on a state file and does not wait for it.
func launch(t *testing.T, stateFile string) *server {
	t.Helper()
	return &server{program.Start(t, exec.Command(program.Build(t, "jirani-bootstrap"), "-set", "listen=[127.0.0.1:0]", "-set", "ops.listen=127.0.0.1:0",
		"-set", "state_file="+stateFile, "-set", "state_interval=10s", "-set", "log.format=json"))}
}

// start launches the program and waits until it answers.
func start(t *testing.T, stateFile string) *server {
	t.Helper()
	s := launch(t, stateFile)
	s.Await("dht node serving")
	s.Await("started")
	program.Eventually(t, "answers", s.answers)
	return s
}

// addr is the DHT address, id the node's.
func (s *server) addr() netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprint(s.Await("dht node serving")["listen"].([]any)[0]))
}

func (s *server) id() string { return fmt.Sprint(s.Await("dht node serving")["node_id"]) }

// answers reports whether a ping is answered within a second.
func (s *server) answers() bool {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.addr()))
	if err != nil {
		return false
	}
	defer c.Close()
	ping := wire.Packet{Kind: wire.Ping, TID: 77, ID: dht.HashText("asker"), Client: true}
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(ping.Append(nil)); err != nil {
		return false
	}
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		var p wire.Packet
		if p.Parse(b[:n]) == nil && p.Kind == wire.Reply && p.TID == 77 {
			return true
		}
	}
}
