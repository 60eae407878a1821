package bootstrapfault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

var program string // the built jirani-bootstrap

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bootstrapfault")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "jirani-bootstrap")
	out, err := exec.Command("go", "build", "-o", program, "github.com/jirani/jirani/cmd/jirani-bootstrap").CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// server is a running jirani-bootstrap on free ports of loopback.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// launch starts the program on a state file and does not wait for it.
func launch(t *testing.T, stateFile string) *server {
	t.Helper()
	s := &server{t: t, done: make(chan struct{})}
	s.cmd = exec.Command(program, "-set", "listen=[127.0.0.1:0]", "-set", "ops.listen=127.0.0.1:0",
		"-set", "state_file="+stateFile, "-set", "state_interval=10s", "-set", "log.format=json")
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("jirani-bootstrap:\n%s", s.output())
		}
	})
	return s
}

// start launches the program and waits until it answers.
func start(t *testing.T, stateFile string) *server {
	t.Helper()
	s := launch(t, stateFile)
	s.awaitLog("dht node serving")
	s.awaitLog("started")
	eventually(t, "answers", s.answers)
	return s
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// said returns the records with a message.
func (s *server) said(message string) (records []map[string]any) {
	for line := range strings.Lines(s.output()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == message {
			records = append(records, r)
		}
	}
	return records
}

func (s *server) awaitLog(message string) {
	s.t.Helper()
	eventually(s.t, "logs "+strconv.Quote(message), func() bool { return len(s.said(message)) > 0 })
}

// addr is the DHT address, id the node's.
func (s *server) addr() netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprint(s.said("dht node serving")[0]["listen"].([]any)[0]))
}

func (s *server) id() string { return fmt.Sprint(s.said("dht node serving")[0]["node_id"]) }

// answers reports whether a ping is answered within a second.
func (s *server) answers() bool {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.addr()))
	if err != nil {
		return false
	}
	defer c.Close()
	ping := wire.Packet{Kind: wire.Ping, TID: 77, ID: dht.HashText("asker"), Client: true}
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(ping.Append(nil)); err != nil {
		return false
	}
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return false
		}
		var p wire.Packet
		if p.Parse(b[:n]) == nil && p.Kind == wire.Reply && p.TID == 77 {
			return true
		}
	}
}

// get fetches a page of the ops listener.
func (s *server) get(path string) (code int, body string) {
	s.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%v%s", s.said("started")[0]["ops"], path))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// metric returns one sample, named with its labels.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	_, body := s.get("/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("no metric %s", name)
	return 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}
