package nameserver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
)

// child is a name server as a process on loopback.
type child struct {
	tb   testing.TB
	cmd  *exec.Cmd
	base string
}

// freeAddr returns an address that was free a moment ago.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// startChild runs a server with those settings and waits until it answers.
func startChild(tb testing.TB, set ...string) *child {
	tb.Helper()
	addr := freeAddr(tb)
	args := []string{"-set", "listen=" + addr, "-set", "ops.listen=", "-set", "policy.mode=open", "-set", "policy.rate_interval=0s", "-set", "log.level=warn"}
	for _, s := range set {
		args = append(args, "-set", s)
	}
	return spawn(tb, addr, "/v1/status", asServer+"=1", args...)
}

// startBare runs what every answer of ours goes through before our code sees
// the request: net/http with the same limits, and a body of a lookup's size.
func startBare(tb testing.TB) *child {
	tb.Helper()
	addr := freeAddr(tb)
	return spawn(tb, addr, "/", asBare+"=1", addr)
}

// bare is the other end of startBare, on the address given.
func bare(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	body := bytes.Repeat([]byte("x"), 1900)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"application/json"}
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body)
	})
	return httpapi.NewServer(h, httpapi.Limits{}, slog.New(slog.DiscardHandler)).Serve(ln)
}

// spawn runs this program as a server, told what to be by env, and waits until
// it answers at the path.
func spawn(tb testing.TB, addr, path, env string, args ...string) *child {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c := &child{tb: tb, cmd: exec.Command(exe, args...), base: "http://" + addr}
	c.cmd.Env = append(os.Environ(), env)
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
		res, err := http.Get(c.base + path)
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
