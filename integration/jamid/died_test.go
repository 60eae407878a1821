//go:build linux

package jamid

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// started is a daemon whose program is a shell's, with a log.
func started(t *testing.T, script string) *Daemon {
	t.Helper()
	d := &Daemon{Name: "alice", Signals: newSignals(nil), dir: t.TempDir()}
	log := strings.Repeat("talk of the DHT\n", lastWords/8) + "\x1b[22;31mlast words\x1b[0m\n"
	if err := os.WriteFile(d.logPath(), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.follow(cmd)
	return d
}

func TestDeathIsToldToWhoWaits(t *testing.T) {
	tests := []struct {
		name, script string
		crashed      bool
		want         string
	}{
		{"crash", "kill -SEGV $$", true, "signal: segmentation fault"},
		{"exit", "exit 3", false, "exit status 3"},
		{"exit without a word", "exit 0", false, "exit status 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := started(t, tt.script)
			_, waited := d.Signals.Wait(t.Context(), 0, "messageReceived", nil)
			polled := d.until(t.Context(), "state", func() (bool, error) { return false, nil })
			for _, err := range []error{waited, polled, d.Died()} {
				var died *Died
				if !errors.As(err, &died) {
					t.Fatalf("error = %v, want a Died", err)
				}
				if died.Crashed() != tt.crashed || !strings.Contains(died.Error(), tt.want) || !strings.HasSuffix(died.Log, "last words\n") {
					t.Errorf("died = %v, crashed %v", died, died.Crashed())
				}
				if len(died.Log) > lastWords || !strings.HasPrefix(died.Log, "talk") {
					t.Errorf("log of %d bytes, %.20q…", len(died.Log), died.Log)
				}
			}
		})
	}
}

func TestAnEndThatWasAskedForIsNoDeath(t *testing.T) {
	d := started(t, "exec sleep 60")
	d.process.kill()
	if _, err := d.Signals.Wait(t.Context(), 0, "messageReceived", nil); !errors.Is(err, errKilled) {
		t.Errorf("Wait() = %v, want %v", err, errKilled)
	}
	if err := d.Died(); err != nil {
		t.Errorf("Died() = %v", err)
	}
}
