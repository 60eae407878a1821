package bootstrapfault

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/state"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/integration/smalldisk"
)

const (
	savesOK    = `bootstrap_state_saves_total{outcome="ok"}`
	savesError = `bootstrap_state_saves_total{outcome="error"}`
	values     = `bootstrap_stored_values{owner="others"}`
)

func load(t *testing.T, path string) *state.State {
	t.Helper()
	s, err := state.Load(path, time.Now(), dhtcrypto.Types(nil).Lifetime)
	if err != nil {
		t.Fatalf("state file: %v", err)
	}
	return s
}

// A full disk: the node serves on, keeps the last whole file, says so once in the log and in a metric, and recovers by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smalldisk.Mount(t, "1m")
	path := filepath.Join(dir, "state")
	s := start(t, path)
	program.Eventually(t, "saves once", func() bool { return s.Metric(savesOK) > 0 })
	empty := smalldisk.Fill(t, dir)
	program.Eventually(t, "fails to save twice", func() bool { return s.Metric(savesError) >= 2 })
	if !s.answers() {
		t.Error("no answer with a full disk")
	}
	if code, body := s.Ops("/readyz"); code != 200 {
		t.Errorf("readyz = %d %s", code, body)
	}
	said := s.Said("state file not written, serving on")
	if len(said) != 1 || !strings.Contains(fmt.Sprint(said[0]), syscall.ENOSPC.Error()) {
		t.Errorf("log says %v, want one record naming the full disk", said)
	}
	if got := load(t, path); got.ID.String() != s.id() {
		t.Errorf("id in the file %v, the node's %v", got.ID, s.id())
	}
	ok := s.Metric(savesOK)
	empty()
	program.Eventually(t, "saves again", func() bool { return s.Metric(savesOK) > ok })
	s.Await("state file written again")
}

// stateOf makes a file large enough that writing it takes a while.
func stateOf(t *testing.T, path string, count int) {
	t.Helper()
	now := time.Now()
	s := &state.State{ID: dht.RandomInfoHash()}
	for i := range count {
		s.Values = append(s.Values, state.Stored{
			Key:     dht.HashText(fmt.Sprint(i)),
			Value:   &dht.Value{ID: 1, Type: dht.TypeTrustRequest, Data: bytes.Repeat([]byte{byte(i)}, 200)},
			Created: now, Ends: now.Add(7 * 24 * time.Hour),
			Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4222),
		})
	}
	if err := state.Save(path, s); err != nil {
		t.Fatal(err)
	}
}

// listing is what stands in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if info, err := e.Info(); err == nil {
			fmt.Fprintln(&b, e.Name(), info.Size(), info.ModTime())
		}
	}
	return b.String()
}

// Killed at any moment, also while it writes its state at the start and at the end: the file is whole, old or new.
func TestKill9(t *testing.T) {
	t.Parallel()
	const count, rounds = 20000, 12
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	stateOf(t, path, count)
	for round := range rounds {
		wait := time.Duration(round*7) * time.Millisecond
		switch {
		case round >= rounds-4:
			before := listing(t, dir)
			launched := launch(t, path)
			for end := time.Now().Add(program.Patience); listing(t, dir) == before && time.Now().Before(end); {
			}
			launched.Kill() // it has begun to write
		case round%2 == 0:
			launched := launch(t, path)
			<-time.After(4 * wait) // somewhere between the first instruction and the first save
			launched.Kill()
		default:
			s := start(t, path)
			s.Signal(syscall.SIGTERM)
			<-time.After(wait) // somewhere in the last save
			s.Kill()
		}
		if got := load(t, path); len(got.Values) != count {
			t.Fatalf("round %d: file with %d values", round, len(got.Values))
		}
	}
	s := start(t, path)
	if got := s.Metric(values); got != count {
		t.Errorf("%v values after %d kills, want %d", got, rounds, count)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".state*")); len(left) > 1 {
		t.Errorf("kills pile up files: %v", left)
	}
}

// A damaged file is put aside, said in the log, and the node starts without.
func TestDamagedStateFile(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	stateOf(t, whole, 100)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty": {}, "cut": b[:len(b)/2], "zeros": make([]byte, len(b)), "text": []byte("not a state file\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, path)
			if said := s.Said("state file damaged, starting with an empty table"); len(said) != 1 || said[0]["level"] != "WARN" {
				t.Errorf("log says %v", said)
			}
			if aside, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(aside, damaged) {
				t.Errorf("put aside: %d bytes, %v", len(aside), err)
			}
			program.Eventually(t, "saves", func() bool { return s.Metric(savesOK) > 0 })
			if got := load(t, path); got.ID.String() != s.id() {
				t.Errorf("id in the new file %v, the node's %v", got.ID, s.id())
			}
		})
	}
}
