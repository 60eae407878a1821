package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/udpio"
)

// server is a running DHT server.
type server struct {
	cmd  *exec.Cmd
	addr netip.AddrPort
	dir  string
}

// startTheirs runs dhtnode without rate limits, which is how it answers more than 1,024 requests a second of one address.
func startTheirs(o options) (*server, error) {
	if o.theirs == "" {
		return nil, nil
	}
	return start(o, o.theirs, func(addr netip.AddrPort) []string {
		return []string{"-s", "-U", "-p", fmt.Sprint(addr.Port()), "-n", fmt.Sprint(networkID)}
	})
}

// startOurs runs jirani-bootstrap with the same limits lifted.
func startOurs(o options) (*server, error) {
	if o.ours == "" {
		return nil, nil
	}
	return start(o, o.ours, func(addr netip.AddrPort) (args []string) {
		for _, set := range []string{"listen=[" + addr.String() + "]", fmt.Sprint("network=", networkID), "ops.listen=",
			"limits.requests=-1", "limits.requests_per_source=-1",
			"limits.storage=1GiB", "limits.storage_per_source=1GiB", "limits.listens_per_source=100000"} {
			args = append(args, "-set", set)
		}
		return args
	})
}

// start runs a program on a free port, in a directory of its own, and waits until it answers.
func start(o options, name string, args func(netip.AddrPort) []string) (*server, error) {
	dir, err := os.MkdirTemp("", "dhtbench-")
	if err != nil {
		return nil, err
	}
	if name, err = exec.LookPath(name); err == nil {
		name, err = filepath.Abs(name)
	}
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	argv := append([]string{name}, args(addr)...)
	if o.cpu != "" {
		argv = append([]string{"taskset", "-c", o.cpu}, argv...)
	}
	s := &server{cmd: exec.Command(argv[0], argv[1:]...), dir: dir, addr: addr}
	s.cmd.Dir = dir
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	c, err := newClient(addr)
	if err == nil {
		defer c.conn.Close()
		err = c.fetchToken()
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// freePort finds a port that was free a moment ago: dhtnode does not say its port when its output is not a terminal.
func freePort() (netip.AddrPort, error) {
	c, err := udpio.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), udpio.Config{})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return c.LocalAddr(), c.Close()
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// cpu returns the processor time used so far, user and system: fields 14 and 15 of stat, in ticks of 10 ms.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, errors.New("short stat")
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// rss returns the resident memory in bytes.
func (s *server) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}
