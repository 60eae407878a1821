package upstart

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
)

// running is a started jirani.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

// start starts `jirani up` on a machine of a lab with dir as its working directory and waits until it says that it has started.
func start(t *testing.T, lab *natlab.Lab, host, dir string, args ...string) *running {
	t.Helper()
	r := launch(t, lab, host, dir, args...)
	r.await("started")
	return r
}

func launch(t *testing.T, lab *natlab.Lab, host, dir string, args ...string) *running {
	t.Helper()
	return launchBy(t, lab, host, dir, lab.Host(host).Start, args...)
}

// launchBy has begin start the program.
func launchBy(t *testing.T, lab *natlab.Lab, host, dir string, begin func(*exec.Cmd) error, args ...string) *running {
	t.Helper()
	starts++
	log, err := lab.LogFile(host, fmt.Sprintf("jirani-%d", starts))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program.Build(t, "jirani"), append([]string{"up"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := begin(cmd); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: cmd, log: log, done: make(chan error, 1)}
	go func() { r.done <- cmd.Wait() }()
	return r
}

func (r *running) output() string {
	b, err := os.ReadFile(r.log.Name())
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// await waits for a log message.
func (r *running) await(message string) {
	r.t.Helper()
	want := fmt.Sprintf(`"msg":%q`, message)
	poll(r.t, func() error {
		select {
		case err := <-r.done:
			r.t.Fatalf("jirani ended: %v\n%s", err, r.output())
		default:
		}
		if !strings.Contains(r.output(), want) {
			return fmt.Errorf("no %s in\n%s", want, r.output())
		}
		return nil
	})
}

// end sends a signal and returns the exit code.
func (r *running) end(sig syscall.Signal) int {
	r.t.Helper()
	r.cmd.Process.Signal(sig)
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("jirani did not end on %v\n%s", sig, r.output())
	}
	return r.cmd.ProcessState.ExitCode()
}
