package turn

import (
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/peer/turnclient"
	"github.com/pion/stun/v3"
)

// relayProgram is a server's program that can be started on the same ports again.
type relayProgram struct {
	name  string
	start func(t *testing.T, ports [2]string) (server func(turnclient.Transport) turnclient.Server, kill func())
}

func relayPrograms(t *testing.T) []relayProgram {
	binary := program.Build(t, "jirani-turnserver")
	return []relayProgram{
		{"coturn", func(t *testing.T, ports [2]string) (func(turnclient.Transport) turnclient.Server, func()) {
			c := startCoturn(t, ports, "-a", "-u", "ring:ring")
			return func(transport turnclient.Transport) turnclient.Server { return c.at(transport, "127.0.0.1") }, c.kill
		}},
		{"jirani", func(t *testing.T, ports [2]string) (func(turnclient.Transport) turnclient.Server, func()) {
			cmd := exec.Command(binary, "-set", `listeners=[{address: "127.0.0.1:`+ports[0]+`", transports: [udp, tcp]}]`, "-set", "ops.listen=")
			cmd.Dir = t.TempDir()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := func() { cmd.Process.Kill(); cmd.Wait() }
			t.Cleanup(kill)
			at := func(transport turnclient.Transport) turnclient.Server {
				return serverAt(transport, "127.0.0.1", ports[0])
			}
			awaitServer(t, at(turnclient.UDP), nil)
			awaitServer(t, at(turnclient.TCP), nil)
			return at, kill
		}},
	}
}

// TestPeerServerKilled: the client says so, by ICMP's hint or the next refresh over UDP, at once over TCP, and why: no answer while the server
// is away, 437 when another has taken its place.
func TestPeerServerKilled(t *testing.T) {
	for _, program := range relayPrograms(t) {
		t.Run(program.name, func(t *testing.T) {
			ports := freePorts(t)
			at, kill := program.start(t, ports)
			cfg := turnclient.Config{Username: "ring", Password: "ring", KeepAlive: time.Second}
			impatient := cfg
			impatient.Timing = turnclient.Timing{RTO: 100 * time.Millisecond, Rc: 3, Rm: 4}
			waiting, err := peerClient(t, at(turnclient.UDP), cfg).Allocate(within(t), turnclient.Options{})
			if err != nil {
				t.Fatal(err)
			}
			leaving, err := peerClient(t, at(turnclient.UDP), impatient).Allocate(within(t), turnclient.Options{})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := peerClient(t, at(turnclient.TCP), cfg).AllocateTCP(within(t), turnclient.Options{})
			if err != nil {
				t.Fatal(err)
			}
			kill()
			await(t, "TCP", stream.Done())
			if _, err := stream.Accept(); err == nil {
				t.Error("Accept goes on")
			}
			await(t, "UDP, server away", leaving.Done())
			if err := leaving.Err(); !errors.Is(err, turnclient.ErrTimeout) {
				t.Errorf("UDP, server away: %v, want %v", err, turnclient.ErrTimeout)
			}
			program.start(t, ports)
			await(t, "UDP, server back", waiting.Done())
			if err := waiting.Err(); !isCode(err, int(stun.CodeAllocMismatch)) {
				t.Errorf("UDP, server back: %v, want 437", err)
			}
		})
	}
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(relayPatience):
		t.Fatalf("%s: the client does not notice", what)
	}
}
