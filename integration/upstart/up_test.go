// Package upstart tries what a newcomer does first: `jirani up` with no file and no argument, a second start, a crash, a port that is
// taken, and the tools around it, with the built program in network namespaces of its own.
package upstart

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

var starts int // of the program so far, for the names of its logs

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// poll repeats f until it returns nil.
func poll(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// get fetches a URL from a machine of the lab.
func get(t *testing.T, m *natlab.Machine, url string) (status int, body []byte, err error) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: m.DialContext, DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

func newLab(t *testing.T) *natlab.Lab {
	t.Helper()
	return natlab.New(t, natlab.OneLAN("upstart"))
}

func serverURL(port int, path string) string {
	return "http://" + netip.AddrPortFrom(natlab.LANServerAddr, uint16(port)).String() + path
}

// TestNewcomer is the README's first command on a LAN: the card tells the machine's own address, every role is well, a real dhtnode
// joins, and a second start keeps the ledger.
func TestNewcomer(t *testing.T) {
	natlab.Require(t, "dhtnode")
	lab, dir := newLab(t), t.TempDir()
	up := start(t, lab, "server", dir)
	other := lab.Host("alice")
	poll(t, func() error {
		status, body, err := get(t, other, serverURL(8000, "/v1/card"))
		var card struct {
			URL   string
			Roles []struct{ Name, Address, Error string }
		}
		if err == nil {
			err = json.Unmarshal(body, &card)
		}
		if err != nil || status != 200 {
			return fmt.Errorf("card = %d %s %v", status, body, err)
		}
		for _, r := range card.Roles {
			if r.Error != "" || !strings.Contains(r.Address, natlab.LANServerAddr.String()) {
				return fmt.Errorf("role %+v", r)
			}
		}
		if len(card.Roles) != 4 || card.URL != serverURL(8000, "/") {
			return fmt.Errorf("card = %+v", card)
		}
		return nil
	})
	joinDHT(t, lab, "alice", natlab.LANServerAddr.String()+":4222")
	if _, body, err := get(t, other, serverURL(8089, "/upTest")); err != nil || !strings.Contains(string(body), `{"unifiedpush":{"version":1}}`) {
		t.Errorf("the UnifiedPush server answers %s %v", body, err)
	}
	before := ledgerKey(t, other)
	if code := up.end(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code = %d\n%s", code, up.output())
	}
	again := start(t, lab, "server", dir)
	if after := ledgerKey(t, other); after != before {
		t.Errorf("second start has another ledger: %s, was %s", after, before)
	}
	again.end(syscall.SIGTERM)
}

// ledgerKey returns the verifier key of the name ledger, which is made once.
func ledgerKey(t *testing.T, m *natlab.Machine) string {
	t.Helper()
	var key string
	poll(t, func() error {
		status, body, err := get(t, m, serverURL(8081, "/ledger/vkeys"))
		if err != nil || status != 200 {
			return fmt.Errorf("vkeys = %d %s %v", status, body, err)
		}
		key = string(body)
		return nil
	})
	return key
}

// joinDHT runs a real dhtnode against the bootstrap node until it has a good node.
func joinDHT(t *testing.T, lab *natlab.Lab, host, bootstrap string) {
	t.Helper()
	in, script, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out lockedBuffer
	cmd := exec.Command("dhtnode", "-b", bootstrap)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	if err := lab.Host(host).Start(cmd); err != nil {
		t.Fatal(err)
	}
	good := regexp.MustCompile(`IPv4 nodes\s*:?\s*[1-9]|[1-9]\d* good|IPv4 stats:\s*Known nodes: [1-9]`)
	poll(t, func() error {
		fmt.Fprintln(script, "ll")
		if !good.MatchString(out.String()) {
			return fmt.Errorf("dhtnode has no good node: %s", out.String())
		}
		return nil
	})
	script.Close()
	cmd.Process.Kill()
	cmd.Wait()
}

// TestCrash kills the network with -9 in the middle and starts it again; nothing is in the way of the second start.
func TestCrash(t *testing.T) {
	lab, dir := newLab(t), t.TempDir()
	for range 3 {
		r := start(t, lab, "server", dir)
		r.end(syscall.SIGKILL)
	}
	last := start(t, lab, "server", dir)
	if code := last.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit code = %d\n%s", code, last.output())
	}
}

// TestRefusals: a second network on the same state, and ports that are taken, each said plainly with what to do.
func TestRefusals(t *testing.T) {
	lab, dir := newLab(t), t.TempDir()
	first := start(t, lab, "server", dir)
	tests := []struct {
		name, dir string
		want      []string
	}{
		{"same state", dir, []string{"state directory is in use", "hint: stop the other process"}},
		{"ports taken", t.TempDir(), []string{"error: bootstrap: ", "error: nameserver: ", "error: turnserver: ", "error: push: ", "error: card: ", "address already in use",
			"hint: another program holds that port: stop it, or choose another with -set card.listen="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := launch(t, lab, "server", tt.dir)
			select {
			case <-r.done:
			case <-time.After(patience):
				t.Fatal("it runs")
			}
			if code := r.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code = %d, want 1", code)
			}
			for _, w := range tt.want {
				if !strings.Contains(r.output(), w) {
					t.Errorf("no %q in\n%s", w, r.output())
				}
			}
		})
	}
	first.end(syscall.SIGTERM)
}

// TestInitFile: what `jirani init` writes is valid, starts a network, and is not overwritten; mistakes are named with their line.
func TestInitFile(t *testing.T) {
	lab, dir := newLab(t), t.TempDir()
	file := filepath.Join(dir, "jirani.yaml")
	if out, code := tool(t, dir, "init", "-o", file); code != 0 {
		t.Fatalf("init = %d\n%s", code, out)
	}
	if out, code := tool(t, dir, "init", "-o", file); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("second init = %d\n%s", code, out)
	}
	if out, code := tool(t, dir, "config", "check", file); code != 0 {
		t.Fatalf("config check = %d\n%s", code, out)
	}
	r := start(t, lab, "server", dir, "-config", file)
	r.end(syscall.SIGTERM)

	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Count(content, []byte("\n")) + 1
	if err := os.WriteFile(file, append(content, "colour: blue\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := tool(t, dir, "config", "check", file); code != 1 || !strings.Contains(out, fmt.Sprintf("jirani.yaml:%d: ", line)) {
		t.Errorf("config check of an unknown key in line %d = %d\n%s", line, code, out)
	}
}

// TestPublicInit: for a host on the Internet the file has credentials of its own and nothing of a LAN's openness.
func TestPublicInit(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "jirani.yaml")
	out, code := tool(t, dir, "init", "-o", file, "-host", "jami.example.org")
	if code != 0 {
		t.Fatalf("init = %d\n%s", code, out)
	}
	users, err := os.ReadFile(filepath.Join(dir, "turn-users"))
	if err != nil || !regexp.MustCompile(`(?m)^jami:\S{20,}$`).Match(users) {
		t.Errorf("users file = %q, %v", users, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "turn-users")); err == nil && info.Mode().Perm() != 0o600 {
		t.Errorf("users file has mode %v", info.Mode())
	}
	printed, code := tool(t, dir, "up", "-config", file, "-print-config")
	if code != 0 || !regexp.MustCompile(`jami_user: "?off`).MatchString(printed) || strings.Contains(printed, "lan: true") {
		t.Errorf("print-config = %d\n%s", code, printed)
	}
}

// tool runs jirani to its end.
func tool(t *testing.T, dir string, args ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program.Build(t, "jirani"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
