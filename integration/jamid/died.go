//go:build linux

package jamid

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// Died is the error of everything that waits for a daemon which ended by itself.
type Died struct {
	Name string // of the machine
	// State says how: exit status, or signal and whether a core was written, in the daemon's home if the limit allows one.
	State *os.ProcessState
	Log   string // last lines of its log
}

func (d *Died) Error() string {
	return fmt.Sprintf("jamid: daemon of %s ended by itself (%v); its log ends in\n%s", d.Name, d.State, d.Log)
}

// Crashed tells whether a signal ended it, which none of our servers should be able to cause and a test cannot mend.
func (d *Died) Crashed() bool {
	status, ok := d.State.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// errKilled is what waits for a daemon that [Daemon.Kill] or [Daemon.Stop] ended.
var errKilled = errors.New("jamid: daemon was stopped")

const (
	// lastWords is how much of its log the death of a daemon is told with.
	lastWords = 4 << 10 // bytes
	// deathPatience bounds the wait from the bus's noticing that a daemon is gone to the kernel's telling us how.
	deathPatience = 5 * time.Second
)

// follow waits for the daemon's program, which was started, and tells those who wait for its signals when it ends.
func (d *Daemon) follow(cmd *exec.Cmd) {
	p := watch(cmd)
	d.process = p
	go func() { // ends with the program
		<-p.ended
		d.Signals.end(d.end(p))
	}()
}

// end is the error for what waits for a daemon that has ended.
func (d *Daemon) end(p *process) error {
	if p.asked.Load() {
		return errKilled
	}
	died := &Died{Name: d.Name, State: p.cmd.ProcessState}
	if exit := (*exec.ExitError)(nil); p.err != nil && !errors.As(p.err, &exit) {
		return fmt.Errorf("jamid: daemon of %s: %w", d.Name, p.err)
	}
	if log, err := d.tail(); err != nil {
		died.Log = err.Error()
	} else {
		died.Log = log
	}
	return died
}

// Died returns a [Died] if the daemon ended by itself, else nil.
func (d *Daemon) Died() error {
	p := d.process
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
		if err := d.end(p); err != errKilled {
			return err
		}
	default:
	}
	return nil
}

// colours are what the daemon writes for terminals.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// tail is the end of the daemon's log, without colours.
func (d *Daemon) tail() (string, error) {
	size, err := d.LogMark()
	if err != nil {
		return "", err
	}
	log, err := d.logSince(max(0, size-lastWords), lastWords)
	_, whole, cut := strings.Cut(string(log), "\n")
	if !cut || size <= lastWords {
		whole = string(log)
	}
	return colours.ReplaceAllString(whole, ""), err
}

// logSince reads at most limit bytes of the daemon's log from mark on.
func (d *Daemon) logSince(mark, limit int64) ([]byte, error) {
	f, err := os.Open(d.logPath())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, mark, limit))
}

// why gives the daemon's end as the reason for a call that the bus says nobody answers any more.
func (d *Daemon) why(err error) error {
	var refused dbus.Error
	if !errors.As(err, &refused) || refused.Name != "org.freedesktop.DBus.Error.NoReply" || d.process == nil {
		return err
	}
	select {
	case <-d.process.ended:
		return d.end(d.process)
	case <-time.After(deathPatience):
		return err
	}
}
