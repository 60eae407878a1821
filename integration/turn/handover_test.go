package turn

import (
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
)

// TestNextServerTakesOver stops the real program while it relays and starts another on the same address: the old allocation goes on, new ones
// are made by the next server, and the old server ends with its last allocation.
func TestNextServerTakesOver(t *testing.T) {
	binary := program.Build(t, "jirani-turnserver")
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	start := func() *exec.Cmd {
		cmd := exec.Command(binary, "-set", `listeners=[{address: "`+addr+`", transports: [udp, tcp]}]`, "-set", "ops.listen=", "-set", "shutdown_timeout=5m")
		cmd.Dir = t.TempDir()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		waitFor(t, addr)
		return cmd
	}
	first := start()
	old := allocate(t, addr)
	if old.err != nil {
		t.Fatal(old.err)
	}
	echoThrough(t, old.relayed)

	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitGone(t, addr)
	start()
	fresh := allocate(t, addr)
	if fresh.err != nil {
		t.Fatalf("the next server: %v", fresh.err)
	}
	for range 3 {
		echoThrough(t, old.relayed)
		echoThrough(t, fresh.relayed)
	}

	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	if err := old.relayed.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the old server: %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Error("the old server does not end with its last allocation")
		first.Process.Kill()
		<-ended
	}
	echoThrough(t, fresh.relayed)
}

// waitGone waits until nobody listens at addr.
func waitGone(t *testing.T, addr string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		c, err := net.Dial("tcp4", addr)
		if err != nil {
			return
		}
		c.Close()
		select {
		case <-deadline:
			t.Fatal("the server keeps its address")
		case <-tick.C:
		}
	}
}
