package service

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/config"
	"go.uber.org/goleak"
)

type toy struct {
	Listen string `yaml:"listen"`
}

func (c toy) Validate() error {
	var p config.Problems
	if c.Listen == "" {
		p.Add("listen", "must not be empty")
	}
	return p.Err()
}

type toyServer struct {
	ln       net.Listener
	reloaded chan struct{}
}

func (s *toyServer) Run(ctx context.Context) error { <-ctx.Done(); return s.ln.Close() }
func (s *toyServer) Reload() error                 { s.reloaded <- struct{}{}; return nil }
func (s *toyServer) OpsHandlers() map[string]http.Handler {
	return map[string]http.Handler{"GET /toy": http.NotFoundHandler()}
}

func role(reloaded chan struct{}) Role[toy] {
	return Role[toy]{
		Program: "jirani-toy", Name: "toy", Usage: "Usage: jirani-toy", DefaultOps: "127.0.0.1:0",
		Default: func() toy { return toy{Listen: "127.0.0.1:0"} },
		New: func(_ context.Context, cfg toy, _ Deps) (Runner, error) {
			ln, err := net.Listen("tcp", cfg.Listen)
			if err != nil {
				return nil, err
			}
			return &toyServer{ln, reloaded}, nil
		},
	}
}

func TestMainWithoutServing(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("# toy\nlisten: ''\nlog:\n  level: loud\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string // regular expressions
		stderr string
	}{
		{"version", []string{"-version"}, 0, `^jirani-toy \S+ \(go`, `^$`},
		{"help", []string{"-help"}, 0, `(?s)Usage: jirani-toy.*TOY_KEY`, `^$`},
		{"print", []string{"-print-config", "-set", "listen=:9"}, 0, `(?s)^listen: :9\nlog:\n  level: info`, `^$`},
		{"check", []string{"-check"}, 0, `valid`, `^$`},
		{"unknown flag", []string{"-x"}, 2, `^$`, `error: flag provided but not defined: -x\n.*hint: `},
		{"argument", []string{"x"}, 2, `^$`, `unexpected argument "x"`},
		{"bad file", []string{"-config", bad, "-check"}, 1, `^$`,
			`error: .*bad.yaml:2: listen: must not be empty\n.*error: .*bad.yaml:4: log.level: must be debug`},
		{"no file", []string{"-config", dir + "/none"}, 1, `^$`, `error: config: open .*none: no such file`},
		{"port taken", []string{"-set", "listen=" + taken.Addr().String()}, 1, `^$`, `address already in use\n.*hint: another program`},
		{"ops port taken", []string{"-set", "ops.listen=" + taken.Addr().String()}, 1, `^$`, `ops: .*address already in use`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreTopFunction("os/signal.loop"))
			var stdout, stderr strings.Builder
			if code := Main(role(nil), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code = %d, want %d", code, tt.code)
			}
			if !regexp.MustCompile(tt.stdout).MatchString(stdout.String()) {
				t.Errorf("stdout = %q, want %s", stdout.String(), tt.stdout)
			}
			if !regexp.MustCompile(tt.stderr).MatchString(stderr.String()) {
				t.Errorf("stderr = %q, want %s", stderr.String(), tt.stderr)
			}
		})
	}
}

// lockedBuffer is a log destination that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestMainServesReloadsAndDrains(t *testing.T) {
	reloaded := make(chan struct{}, 1)
	var logs lockedBuffer
	done := make(chan int, 1)
	go func() { done <- Main(role(reloaded), nil, io.Discard, &logs) }()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(logs.String(), `"msg":"started"`) {
		if time.Now().After(deadline) {
			t.Fatalf("not started; log: %s", logs.String())
		}
		time.Sleep(time.Millisecond)
	}
	ops := regexp.MustCompile(`"ops":"([^"]+)"`).FindStringSubmatch(logs.String())[1]
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + ops + "/readyz")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("readyz = %v, %v", res, err)
	}
	res.Body.Close()
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	<-reloaded
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	if code := <-done; code != 0 {
		t.Errorf("exit code = %d; log: %s", code, logs.String())
	}
}

type failing struct{ err error }

func (f failing) Run(context.Context) error { return f.err }

type waiting struct{}

func (waiting) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func TestGroupEndsTogether(t *testing.T) {
	broken := errors.New("socket gone")
	err := Group{{"relay", failing{broken}}, {"names", waiting{}}}.Run(t.Context())
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "relay: ") {
		t.Errorf("Run = %v", err)
	}
}

func TestHint(t *testing.T) {
	var b strings.Builder
	report(&b, "jirani-toy", "", Hint(errors.New("no key"), "run %s", "init"))
	report(&b, "jirani-toy", "", errors.Join(errors.New("one"), errors.New("two")))
	want := "jirani-toy: error: no key\njirani-toy: hint: run init\njirani-toy: error: one\njirani-toy: error: two\n"
	if b.String() != want {
		t.Errorf("report = %q, want %q", b.String(), want)
	}
}
