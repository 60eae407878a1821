//go:build linux

package jamid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/jirani/jirani/internal/natlab"
)

// Program is where Debian puts the daemon.
const Program = "/usr/libexec/jamid"

const (
	service = "cx.ring.Ring"
	// poll is how often a state that has no signal of its own is looked at.
	poll = 100 * time.Millisecond
	// grace is how long Stop lets the daemon say good-bye to the DHT.
	grace = 10 * time.Second
	// maxLog is how much of a log WaitLog looks through.
	maxLog = 8 << 20 // bytes
)

// Config says where a daemon runs.
type Config struct {
	Machine *natlab.Machine // must not be nil
	// Dir is the daemon's home, and holds its logs: daemon.log, signals.log, bus.log. It is created.
	Dir string
	// Env is added to the otherwise clean environment, as KEY=value. DHTLOGLEVEL and SIPLOGLEVEL raise the log.
	Env []string
}

// Daemon is a running jami-daemon. Its methods are safe for concurrent use.
type Daemon struct {
	Name    string
	Signals *Signals

	dir     string // home
	bus     *bus
	process *process
	logs    []io.Closer
	pumped  chan struct{} // closed when no signal will be added any more
}

// Start runs a daemon and returns once it answers on its bus. ctx bounds only the start.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	d := &Daemon{Name: cfg.Machine.Name, dir: cfg.Dir, pumped: make(chan struct{})}
	if err := d.start(ctx, cfg); err != nil {
		d.Kill()
		return nil, fmt.Errorf("jamid: start %s: %w", d.Name, err)
	}
	return d, nil
}

func (d *Daemon) start(ctx context.Context, cfg Config) error {
	if err := makeHome(cfg.Dir); err != nil {
		return err
	}
	logs := map[string]*os.File{}
	for _, name := range []string{"daemon.log", "signals.log", "bus.log"} {
		f, err := os.OpenFile(filepath.Join(cfg.Dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		logs[name], d.logs = f, append(d.logs, f)
	}
	d.Signals = newSignals(logs["signals.log"])
	var err error
	if d.bus, err = startBus(ctx, cfg.Machine.Start, logs["bus.log"]); err != nil {
		return err
	}
	if err := d.listen(); err != nil {
		return err
	}
	cmd := exec.Command(Program, "-c", "-d", "-p")
	cmd.Env = cleanEnv(cfg.Dir, d.bus.address, cfg.Env)
	cmd.Dir = cfg.Dir
	cmd.Stdout, cmd.Stderr = logs["daemon.log"], logs["daemon.log"]
	if err := cfg.Machine.Start(cmd); err != nil {
		return err
	}
	d.follow(cmd)
	return d.register(ctx)
}

// listen begins to record signals. The goroutine ends when the bus connection is closed.
func (d *Daemon) listen() error {
	received := make(chan *dbus.Signal, 64)
	d.bus.conn.Signal(received)
	go func() {
		defer close(d.pumped)
		for sig := range received {
			if member, ours := strings.CutPrefix(sig.Name, service+"."); ours {
				_, member, _ = strings.Cut(member, ".")
				d.Signals.add(Signal{At: time.Now(), Member: member, Args: sig.Body})
			}
		}
	}()
	return d.bus.conn.AddMatchSignal(dbus.WithMatchPathNamespace("/cx/ring/Ring"))
}

// register makes us a client of the daemon, as soon as it is on the bus.
func (d *Daemon) register(ctx context.Context) error {
	return d.until(ctx, "daemon on its bus", func() (bool, error) {
		err := d.call(ctx, "Instance", "Register", nil, int32(os.Getpid()), "test")
		var missing dbus.Error
		if errors.As(err, &missing) && missing.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" {
			return false, nil
		}
		return err == nil, err
	})
}

// call invokes a method of one of the daemon's interfaces and stores its results in out, in order.
func (d *Daemon) call(ctx context.Context, object, method string, out []any, args ...any) error {
	path := dbus.ObjectPath("/cx/ring/Ring/" + object)
	// NO_AUTO_START: an installed service file must not start a daemon elsewhere.
	c := d.bus.conn.Object(service, path).CallWithContext(ctx, service+"."+object+"."+method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil {
		return d.why(c.Err)
	}
	return c.Store(out...)
}

// configure is call on the ConfigurationManager, where most methods are.
func (d *Daemon) configure(ctx context.Context, method string, out []any, args ...any) error {
	if err := d.call(ctx, "ConfigurationManager", method, out, args...); err != nil {
		return fmt.Errorf("jamid: %s on %s: %w", method, d.Name, err)
	}
	return nil
}

// until asks done again at every signal and every poll, until it says true or fails, the daemon dies, or ctx ends.
func (d *Daemon) until(ctx context.Context, what string, done func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	p := d.process
	if p == nil {
		return errKilled
	}
	for {
		changed := d.Signals.changed()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-p.ended:
			return d.end(p)
		case <-ctx.Done():
			return fmt.Errorf("jamid: %s: no %s: %w", d.Name, what, ctx.Err())
		}
	}
}

// LogMark returns the length of the daemon's log.
func (d *Daemon) LogMark() (int64, error) {
	info, err := os.Stat(d.logPath())
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *Daemon) logPath() string { return filepath.Join(d.dir, "daemon.log") }

// WaitLog waits until the daemon's log says text after mark: for states of which it tells nobody else.
func (d *Daemon) WaitLog(ctx context.Context, mark int64, text string) error {
	return d.until(ctx, "log line with "+text, func() (bool, error) {
		log, err := d.logSince(mark, maxLog)
		return strings.Contains(string(log), text), err
	})
}

// Stop lets the daemon end by itself, and kills it when it takes too long.
func (d *Daemon) Stop() {
	if d.process != nil {
		d.process.asked.Store(true)
		_ = d.process.cmd.Process.Signal(syscall.SIGTERM) // already gone is as good
		select {
		case <-d.process.ended:
		case <-time.After(grace):
		}
	}
	d.Kill()
}

// Kill ends the daemon and its bus at once. Its home stays. More than one Kill or Stop is harmless.
func (d *Daemon) Kill() {
	if d.process != nil {
		d.process.kill()
	}
	if d.bus != nil {
		d.bus.close()
		if d.bus.conn != nil {
			<-d.pumped
		}
	}
	for _, l := range d.logs {
		l.Close()
	}
	d.process, d.bus, d.logs = nil, nil, nil
}
