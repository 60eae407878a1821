//go:build linux

package jamid

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/godbus/dbus/v5"
)

// busConfig lets everybody on the machine who can reach the socket's directory say everything.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// bus is a session bus of one daemon, and our connection to it.
type bus struct {
	dir     string // short, since the path of a socket has 107 bytes at most
	address string
	process *process
	conn    *dbus.Conn
}

// startBus runs a dbus-daemon through start, which places it in a machine.
func startBus(ctx context.Context, start func(*exec.Cmd) error, log io.Writer) (*bus, error) {
	dir, err := os.MkdirTemp("", "jamid")
	if err != nil {
		return nil, err
	}
	b := &bus{dir: dir, address: "unix:path=" + filepath.Join(dir, "bus")}
	if err := b.open(ctx, start, log); err != nil {
		b.close()
		return nil, fmt.Errorf("jamid: session bus: %w", err)
	}
	return b, nil
}

func (b *bus) open(ctx context.Context, start func(*exec.Cmd) error, log io.Writer) error {
	config := filepath.Join(b.dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, filepath.Join(b.dir, "bus")), 0o600); err != nil {
		return err
	}
	// The bus prints its address once it listens.
	ready := &lineWaiter{next: log, line: make(chan struct{})}
	cmd := exec.Command("dbus-daemon", "--nofork", "--print-address=1", "--config-file="+config)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = ready, log
	if err := start(cmd); err != nil {
		return err
	}
	b.process = watch(cmd)
	select {
	case <-ready.line:
	case <-b.process.ended:
		return fmt.Errorf("dbus-daemon ended: %w", b.process.err)
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := dbus.Connect(b.address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	b.conn = conn
	return err
}

func (b *bus) close() {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.process != nil {
		b.process.kill()
	}
	os.RemoveAll(b.dir)
}

// lineWaiter passes on what is written and closes line at the first line break.
type lineWaiter struct {
	next io.Writer
	once sync.Once
	line chan struct{}
}

func (w *lineWaiter) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, '\n') >= 0 {
		w.once.Do(func() { close(w.line) })
	}
	return w.next.Write(p)
}

// process is a started program that somebody waits for.
type process struct {
	cmd   *exec.Cmd
	asked atomic.Bool   // to end, by us
	ended chan struct{} // closed at its end
	err   error         // of Wait; readable after ended
}

// watch waits for cmd, which was started; the goroutine ends with the program.
func watch(cmd *exec.Cmd) *process {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p
}

// kill ends the program at once and waits until it is gone.
func (p *process) kill() {
	p.asked.Store(true)
	_ = p.cmd.Process.Kill() // already gone is as good
	<-p.ended
}

// cleanEnv is the whole environment of a daemon whose files live under home.
func cleanEnv(home, busAddress string, extra []string) []string {
	at := func(dirs ...string) string { return filepath.Join(append([]string{home}, dirs...)...) }
	env := []string{
		"HOME=" + home,
		"PATH=/usr/bin:/bin",
		"LC_ALL=C.UTF-8",
		"XDG_RUNTIME_DIR=" + at("run"),
		"XDG_DATA_HOME=" + at(".local", "share"),
		"XDG_CONFIG_HOME=" + at(".config"),
		"XDG_CACHE_HOME=" + at(".cache"),
		"DBUS_SESSION_BUS_ADDRESS=" + busAddress,
	}
	return append(env, extra...)
}

// soundless makes ALSA's default device one that swallows everything and records silence: a daemon without any sound
// device sends nothing into a call.
const soundless = "pcm.!default { type null }\nctl.!default { type null }\n"

// makeHome creates the directories that cleanEnv names.
func makeHome(home string) error {
	for _, e := range cleanEnv(home, "", nil) {
		key, dir, _ := strings.Cut(e, "=")
		if key != "HOME" && !strings.HasPrefix(key, "XDG_") {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(home, ".asoundrc"), []byte(soundless), 0o600)
}
