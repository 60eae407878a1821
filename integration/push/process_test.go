package push

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jirani/jirani/integration/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// server is a running jirani-push.
type server struct {
	*program.Process
	t *testing.T
}

// start runs the program with simulated vendors and its state in dir, and waits until it serves. wrap is the command
// line that runs it, such as one that sets limits; set are further settings.
func start(t *testing.T, dir string, wrap []string, set ...string) *server {
	t.Helper()
	args := append(wrap, program.Build(t, "jirani-push"))
	for _, kv := range append([]string{"provider=fake", "fake.latency=1ms", "listen=127.0.0.1:0", "ops.listen=127.0.0.1:0", "log.format=json",
		"unifiedpush.vapid_key_file=" + dir + "/vapid.pem", "distributor.enabled=true", "distributor.listen=127.0.0.1:0",
		"distributor.state=" + dir}, set...) {
		args = append(args, "-set", kv)
	}
	s := &server{program.Start(t, exec.Command(args[0], args[1:]...)), t}
	s.Await("push gateway serving")
	s.Await("started")
	return s
}

func (s *server) gateway() string { return fmt.Sprint(s.Await("push gateway serving")["listen"]) }

func (s *server) distributor() string {
	return fmt.Sprint(s.Await("push gateway serving")["distributor"])
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
