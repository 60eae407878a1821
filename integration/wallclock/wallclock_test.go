//go:build linux && amd64

package wallclock

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// TestMain is, when told so, the child: for each byte it reads it prints its time and how long it has run.
func TestMain(m *testing.M) {
	if os.Getenv("WALLCLOCK_CHILD") != "1" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := in.ReadByte(); err != nil {
			return
		}
		now := time.Now()
		fmt.Println(now.Unix(), now.Sub(began).Milliseconds())
	}
}

func TestSet(t *testing.T) {
	runtime.LockOSThread() // the child ends with this thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = []string{"WALLCLOCK_CHILD=1"}, os.Stderr
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	clock, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer clock.Close()
	var last int64
	for _, off := range []time.Duration{0, -time.Hour, 48 * time.Hour, -20 * 365 * 24 * time.Hour, 0} {
		if err := clock.Set(off); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		if _, err := io.WriteString(ask, "?"); err != nil {
			t.Fatal(err)
		}
		var unix, ran int64
		if _, err := fmt.Fscan(answers, &unix, &ran); err != nil {
			t.Fatal(err)
		}
		after := time.Now()
		if unix < before.Add(off).Unix() || unix > after.Add(off).Unix() {
			t.Errorf("off by %v: child's time %v, ours %v", off, time.Unix(unix, 0), after)
		}
		if ran < last || ran > 60_000 {
			t.Errorf("off by %v: child ran %d ms, before %d", off, ran, last)
		}
		last = ran
	}
	ask.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
