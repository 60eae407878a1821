package nameserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// child is a name server as a process on loopback.
type child struct {
	tb   testing.TB
	cmd  *exec.Cmd
	base string
}

// startChild runs a server with those settings and waits until it answers.
func startChild(tb testing.TB, set ...string) *child {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that was free a moment ago
	if err != nil {
		tb.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	args := []string{"-set", "listen=" + addr, "-set", "ops.listen=", "-set", "policy.mode=open", "-set", "policy.rate_interval=0s", "-set", "log.level=warn"}
	for _, s := range set {
		args = append(args, "-set", s)
	}
	c := &child{tb: tb, cmd: exec.Command(exe, args...), base: "http://" + addr}
	c.cmd.Env = append(os.Environ(), asServer+"=1")
	var log bytes.Buffer
	c.cmd.Stdout, c.cmd.Stderr = &log, &log
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.cmd.Process.Kill() // already gone is as good
		_ = c.cmd.Wait()
		if tb.Failed() {
			tb.Logf("server: %s", &log)
		}
	})
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	for {
		res, err := http.Get(c.base + "/v1/status")
		if err == nil {
			res.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return c
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("server does not answer: %v\n%s", err, &log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cpu returns the processor time the server has used (proc(5), fields 14 and
// 15), in steps of 10 ms.
func (c *child) cpu() time.Duration {
	c.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.tb.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			c.tb.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// dsnFile writes a connection string where store.dsn_file can name it.
func dsnFile(tb testing.TB, dsn string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "dsn")
	if err := os.WriteFile(path, []byte(dsn), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}
