package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

var program string // the built jirani-push

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pushtest")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "jirani-push")
	out, err := exec.Command("go", "build", "-o", program, "github.com/jirani/jirani/cmd/jirani-push").CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// require finds a program of another's.
func require(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("JIRANI_REQUIRE") == "1" {
		t.Fatalf("missing: program %s", name)
	}
	t.Skipf("missing: program %s", name)
	return ""
}

// server is a running jirani-push.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes the program's output.
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

// start runs the program with simulated vendors and its state in dir, and waits until it serves. wrap is the command
// line that runs it, such as one that sets limits; set are further settings.
func start(t *testing.T, dir string, wrap []string, set ...string) *server {
	t.Helper()
	args := append(wrap, program)
	for _, kv := range append([]string{"provider=fake", "fake.latency=1ms", "listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", "log.format=json",
		"unifiedpush.vapid_key_file=" + dir + "/vapid.pem", "distributor.enabled=true", "distributor.listen=127.0.0.1:0",
		"distributor.state=" + dir}, set...) {
		args = append(args, "-set", kv)
	}
	s := &server{t: t, done: make(chan struct{}), cmd: exec.Command(args[0], args[1:]...)}
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.cmd.Wait(); close(s.done) }() // ends with the process
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("jirani-push:\n%s", s.output())
		}
	})
	eventually(t, "serves", func() bool { return s.said("push gateway serving") != nil && s.said("started") != nil })
	return s
}

// kill ends the program as a power cut would.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// said returns the newest record of the log with a message, nil if there is none.
func (s *server) said(message string) (record map[string]any) {
	for line := range strings.Lines(s.output()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == message {
			record = r
		}
	}
	return record
}

func (s *server) gateway() string { return fmt.Sprint(s.said("push gateway serving")["listen"]) }

func (s *server) distributor() string {
	return fmt.Sprint(s.said("push gateway serving")["distributor"])
}

// again starts it once more after its end, with the UnifiedPush server on the same port.
func (s *server) again(dir string) *server {
	s.t.Helper()
	return start(s.t, dir, nil, "distributor.listen="+s.distributor())
}

// publish sends a body to a topic and returns the status, 0 without an answer.
func (s *server) publish(topic, body string) int {
	res, err := http.Post("http://"+s.distributor()+"/"+topic, "text/plain", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// kept returns the bodies that a topic still has, oldest first.
func (s *server) kept(topic string) (bodies []string) {
	s.t.Helper()
	res, err := http.Get("http://" + s.distributor() + "/" + topic + "/json?poll=1")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	for d := json.NewDecoder(res.Body); ; {
		var e event
		if err := d.Decode(&e); err == io.EOF {
			return bodies
		} else if err != nil {
			s.t.Fatal(err)
		}
		bodies = append(bodies, e.Message)
	}
}

// event is one object of ntfy's streams.
type event struct {
	ID, Event, Topic, Message, Encoding string
}

// metric returns one sample, named with its labels, 0 if there is none yet.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://%v/metrics", s.said("started")["ops"]))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
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
