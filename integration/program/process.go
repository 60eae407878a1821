package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait.
const Patience = 60 * time.Second

// Process is a running server of ours that logs in JSON (log.format=json). Its methods may be called from several goroutines.
type Process struct {
	tb   testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// Start runs cmd, which the end of the test kills. What it said is shown if the test fails.
func Start(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{tb: tb, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }() // ends with the process
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("%s:\n%s", cmd.Path, p.Output())
		}
	})
	return p
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends it a signal.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Kill ends it as a power cut would.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Write takes its output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// Output is all it has written so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Said returns the records of its log with a message, oldest first.
func (p *Process) Said(message string) (records []map[string]any) {
	for line := range strings.Lines(p.Output()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == message {
			records = append(records, r)
		}
	}
	return records
}

// Await waits for a record with the message and returns the newest.
func (p *Process) Await(message string) map[string]any {
	p.tb.Helper()
	var records []map[string]any
	Eventually(p.tb, "logs "+strconv.Quote(message), func() bool { records = p.Said(message); return len(records) > 0 })
	return records[len(records)-1]
}

// Ops fetches a page of the operations listener.
func (p *Process) Ops(path string) (status int, body string) {
	p.tb.Helper()
	res, err := http.Get(fmt.Sprintf("http://%v%s", p.Await("started")["ops"], path))
	if err != nil {
		p.tb.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		p.tb.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// Metric returns one sample, named with its labels, and 0 if there is none yet.
func (p *Process) Metric(name string) float64 {
	p.tb.Helper()
	_, body := p.Ops("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				p.tb.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// Eventually waits for ok to be true and fails the test if it is not within Patience.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	tb.Fatalf("not within %v: %s", Patience, what)
}
