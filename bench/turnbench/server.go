package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pion/stun/v3"
)

const (
	serverCPU    = 0
	generatorCPU = 1
	startTimeout = 10 * time.Second
)

// server is a TURN server under measurement, a child process.
type server struct {
	cmd  *exec.Cmd
	at   site
	addr string
	dir  string
}

func (at site) startOurs(path string, more ...string) (*server, error) {
	return at.start(func(addr, dir string) *exec.Cmd {
		// No limits that coturn has not.
		args := []string{"-c", strconv.Itoa(serverCPU), path, "-set", `listeners=[{address: "` + addr + `", transports: [udp, tcp]}]`,
			"-set", "relay.addresses=[" + at.relay.String() + "]", "-set", "jami_user=on",
			"-set", "limits.unauthenticated_rate=0", "-set", "limits.allocations_per_address=0", "-set", "limits.unauthenticated_connections=0",
			"-set", "ops.listen=", "-set", "shutdown_timeout=0s", "-set", "relay.min_port=10000", "-set", "log.level=warn"}
		return exec.Command("taskset", append(args, more...)...)
	})
}

func (at site) startCoturn(path string) (*server, error) {
	return at.start(func(addr, dir string) *exec.Cmd {
		ip, port, _ := net.SplitHostPort(addr)
		return exec.Command("taskset", "-c", strconv.Itoa(serverCPU), path, "-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech",
			"--user=ring:ring", "--realm=ring", "--listening-ip="+ip, "--relay-ip="+at.relay.String(), "--listening-port="+port, "--allow-loopback-peers",
			"--min-port=10000", "--max-port=65535", "--no-stdout-log", "--log-file="+filepath.Join(dir, "log"),
			"--pidfile="+filepath.Join(dir, "pid"), "--userdb="+filepath.Join(dir, "db"), "--relay-threads=1")
	})
}

// start runs a server and waits until it takes connections.
func (at site) start(command func(addr, dir string) *exec.Cmd) (*server, error) {
	addr, err := at.free()
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, at: at}
	if s.dir, err = os.MkdirTemp("", "turnbench-"); err != nil {
		return nil, err
	}
	s.cmd = command(s.addr, s.dir)
	s.cmd.Dir = s.dir
	if err := at.inServer(s.cmd.Start); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.answers("tcp") && s.answers("udp") { // coturn opens one after the other
			return s, nil
		}
	}
	s.stop()
	return nil, errors.New("the server does not answer")
}

// free returns an address for the server.
func (at site) free() (string, error) {
	if at.port != 0 {
		return netip.AddrPortFrom(at.server, at.port).String(), nil
	}
	ln, err := net.Listen("tcp", netip.AddrPortFrom(at.server, 0).String())
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// answers asks for a Binding.
func (s *server) answers(network string) bool {
	c, err := s.dial(network)
	if err != nil {
		return false
	}
	defer c.conn.Close()
	_, err = c.do(message(stun.MethodBinding))
	return err == nil
}

func (s *server) stop() {
	if s.cmd == nil { // none: the client sends to the peer
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// cpu returns the CPU seconds, user and system, that the server's threads have used. None of them ends while it is measured.
func (s *server) cpu() (float64, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err == nil && len(threads) == 0 {
		err = errors.New("the server has ended")
	}
	var sum float64
	for _, path := range threads {
		b, readErr := os.ReadFile(path)
		ns, _, _ := strings.Cut(string(b), " ")
		v, parseErr := strconv.ParseFloat(ns, 64)
		sum += v / 1e9
		err = errors.Join(err, readErr, parseErr)
	}
	return sum, err
}

// resident returns the server's resident memory in bytes.
func (s *server) resident() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	return pages * float64(os.Getpagesize()), err
}

// spent runs work and returns the CPU seconds the server used for it.
func (s *server) spent(work func() error) (float64, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := s.cpu()
	return after - before, err
}
