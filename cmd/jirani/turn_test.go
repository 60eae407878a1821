package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jirani/jirani/peer/doctor"
	"github.com/jirani/jirani/turnserver"
)

// serveTURN runs a server with the user ring on loopback until the test ends, and returns its addresses.
func serveTURN(t *testing.T) (udp, tcp string) {
	t.Helper()
	cfg := turnserver.Default()
	cfg.Listeners[0].Address = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.ShutdownTimeout = 0
	s, err := turnserver.New(t.Context(), cfg, turnserver.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs("udp")[0].String(), s.Addrs("tcp")[0].String()
}

func turn(args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = turnCommand(args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestTURNCheck(t *testing.T) {
	udp, tcp := serveTURN(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("ring\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-server", udp},
		{"-server", tcp, "-transport", "tcp", "-password-file", file},
		{"-server", "turn:" + tcp + "?transport=tcp", "-password", "ring", "-user", "ring", "-4"},
	} {
		code, out, errs := turn(append([]string{"check"}, args...)...)
		if code != 0 || !strings.HasSuffix(out, "everything works\n") || errs != "" {
			t.Errorf("turn check %v = %d, %s%s", args, code, out, errs)
		}
		if tcp := strings.Contains(out, "ok    outside_tcp"); tcp == (len(args) == 2) || !strings.Contains(out, "ok    outside ") {
			t.Errorf("turn check %v checks\n%s", args, out)
		}
	}
}

func TestTURNCheckJSON(t *testing.T) {
	server, _ := serveTURN(t)
	t.Setenv(passwordVariable, "wrong")
	code, out, errs := turn("check", "-server", server, "-json")
	var report doctor.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || errs != "" {
		t.Fatalf("turn check with a wrong password = %d, %s%s, %v", code, out, errs, err)
	}
	last := report.Steps[len(report.Steps)-1]
	if report.OK || last.Name != "allocate" || last.Problem != doctor.Credentials || report.Reflexive == "" || report.NAT != "none" {
		t.Errorf("report %s", out)
	}
	if _, out, _ := turn("check", "-server", server); !strings.Contains(out, "FAIL  allocate") || !strings.Contains(out, "hint: ") || strings.Contains(out, "wrong\n") {
		t.Errorf("turn check with a wrong password says\n%s", out)
	}
}

func TestTURNMisuse(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
	}{
		{nil, 2}, {[]string{"probe"}, 2}, {[]string{"check"}, 2}, {[]string{"check", "-server", "h", "more"}, 2},
		{[]string{"check", "-server", "h", "-4", "-6"}, 2}, {[]string{"check", "-server", "h", "-transport", "sctp"}, 2},
		{[]string{"check", "-server", "h", "-password", "x", "-password-file", "y"}, 2}, {[]string{"check", "-server", "h:0"}, 2},
		{[]string{"check", "-server", "h", "-timeout", "1ms"}, 2}, {[]string{"check", "-colour"}, 2},
		{[]string{"check", "-server", "h", "-password-file", empty}, 1}, {[]string{"check", "-server", "h", "-password-file", empty + "x"}, 1},
		{[]string{"check", "-server", "h", "-ca", empty}, 1}, {[]string{"-help"}, 0}, {[]string{"check", "-help"}, 0},
	} {
		code, out, errs := turn(tt.args...)
		if code != tt.code || (code == 0) != (out == turnUsage) || (code != 0) != strings.Contains(errs, "jirani: error: ") {
			t.Errorf("turn %v = %d, %q, %q; want %d", tt.args, code, out, errs, tt.code)
		}
	}
}
