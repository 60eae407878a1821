package theirs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long an operation of theirs may take. A search whose nodes died needs about 48 s to say so.
const patience = 60 * time.Second

// process is a running child whose output is read line by line.
type process struct {
	tb    testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex
	lines  []string
	grown  chan struct{} // closed when lines grow or the output ends
	closed bool
}

func startProcess(tb testing.TB, opt Options, name string, args ...string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: exec.Command(name, args...), ended: make(chan struct{}), grown: make(chan struct{})}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.stdin, p.cmd.Stderr = stdin, nil
	p.cmd.Stderr = p.cmd.Stdout
	if err := opt.start(p.cmd); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	go p.read(stdout) // ends with the process
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("output of %.200s:\n%s", p.cmd, tail(p.lines, 60))
		}
	})
	return p
}

func tail(lines []string, n int) string {
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		p.append(in.Text(), false)
	}
	p.append("", true)
	p.cmd.Wait()
	close(p.ended)
}

func (p *process) append(line string, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = end; !end {
		p.lines = append(p.lines, line)
	}
	close(p.grown)
	p.grown = make(chan struct{})
}

// mark is the place after everything printed so far.
func (p *process) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// next waits for the line at place i.
func (p *process) next(ctx context.Context, i int) (string, error) {
	for {
		p.mu.Lock()
		grown, closed := p.grown, p.closed
		if i < len(p.lines) {
			defer p.mu.Unlock()
			return p.lines[i], nil
		}
		p.mu.Unlock()
		if closed {
			return "", io.ErrUnexpectedEOF
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// scan feeds lines from place i on to f until it returns true.
func (p *process) scan(what string, i int, f func(line string) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ; ; i++ {
		line, err := p.next(ctx, i)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if f(line) {
			return nil
		}
	}
}

func (p *process) send(line string) error {
	_, err := io.WriteString(p.stdin, line+"\n")
	return err
}

// PID is the process's id.
func (p *process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process as a power cut would, and waits for it. It may be called again.
func (p *process) Kill() {
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.cmd.Process.Kill()
	<-p.ended
}

// Pause stops the process in its tracks; Resume lets it go on.
func (p *process) Pause() { p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (p *process) Resume() { p.cmd.Process.Signal(syscall.SIGCONT) }
