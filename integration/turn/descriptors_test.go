package turn

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
)

// TestDescriptorsRunOut gives the real program few descriptors: it refuses new allocations with 508 and keeps the old ones.
func TestDescriptorsRunOut(t *testing.T) {
	prlimit := program.Require(t, "prlimit")
	binary := program.Build(t, "jirani-turnserver")
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	cmd := exec.Command(prlimit, "--nofile=40:40", binary, "-set", `listeners=[{address: "`+addr+`", transports: [udp, tcp]}]`,
		"-set", "ops.listen=", "-set", "workers=1", "-set", "shutdown_timeout=0s")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	waitFor(t, addr)

	first := allocate(t, addr)
	if first.err != nil {
		t.Fatal(first.err)
	}
	var refused error
	for range 60 {
		if a := allocate(t, addr); a.err != nil {
			refused = a.err
			break
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "508") {
		t.Errorf("without descriptors left: %v, want 508", refused)
	}
	echoThrough(t, first.relayed)
}

type allocated struct {
	relayed net.PacketConn
	err     error
}

func allocate(t *testing.T, server string) allocated {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	relayed, err := pionClient(t, server, conn).Allocate()
	if err == nil {
		t.Cleanup(func() { relayed.Close() })
	}
	return allocated{relayed, err}
}

func waitFor(t *testing.T, addr string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if c, err := net.Dial("tcp4", addr); err == nil {
			c.Close()
			return
		}
		select {
		case <-deadline:
			t.Fatal("the server does not answer")
		case <-tick.C:
		}
	}
}
