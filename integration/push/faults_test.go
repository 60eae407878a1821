package push

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/integration/smalldisk"
)

// TestFullDisk fills the disk of the UnifiedPush server: publishing is answered 503 and nothing acknowledged is lost, not even over a kill;
// what is kept can be read, the gateway's vendors are served, and with room again publishing works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smalldisk.Mount(t, "2m")
	s := start(t, disk, nil)
	acknowledged := []string{"first"}
	if status := s.publish("upDisk", "first"); status != 200 {
		t.Fatalf("publish = %d", status)
	}
	empty := smalldisk.Fill(t, disk)
	for i := 0; ; i++ { // what is allocated already may hold a few messages
		body := fmt.Sprint(i, strings.Repeat(".", 1000))
		status := s.publish("upDisk", body)
		if status == 503 {
			break
		}
		if status != 200 || i == 5000 {
			t.Fatalf("message %d on a full disk: %d", i, status)
		}
		acknowledged = append(acknowledged, body)
	}
	s.Await("messages not kept, publishers are told to come again")
	keeps := func(when string) {
		t.Helper()
		want := acknowledged[max(0, len(acknowledged)-100):]
		if got := s.kept("upDisk"); len(got) < len(want) || !slices.Equal(got[len(got)-len(want):], want) {
			t.Errorf("%s: %d messages kept, want the newest %d of %d", when, len(got), len(want), len(acknowledged))
		}
	}
	keeps("full")
	s.push(1)
	s.Kill()
	empty()
	s = s.again(disk)
	keeps("after a kill")
	if status := s.publish("upDisk", "after"); status != 200 {
		t.Errorf("with room again: %d", status)
	}
}

// push has the gateway deliver n messages to a simulated vendor.
func (s *server) push(n int) {
	s.t.Helper()
	const name = `push_messages_total{priority="high",provider="fcm",status="delivered"}`
	before := s.Metric(name)
	for i := range n {
		res, err := http.Post("http://"+s.gateway()+"/api/push", "application/json",
			strings.NewReader(fmt.Sprintf(`{"notifications":[{"platform":2,"tokens":["t%d"],"data":{"key":"k"},"android":{"priority":"high"}}]}`, i)))
		if err != nil {
			s.t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			s.t.Fatalf("gateway = %d", res.StatusCode)
		}
	}
	program.Eventually(s.t, "delivers", func() bool { return s.Metric(name) == before+float64(n) })
}

// TestDescriptorsRunOut opens more streams than the server may have: those that are open go on receiving, the pushes of callers that are
// connected go on, and when streams end there is room for others.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	const most = 60
	s := start(t, t.TempDir(), []string{program.Require(t, "prlimit"), fmt.Sprintf("--nofile=%d:%[1]d", most)})
	first := s.curl("upFirst", "all")
	if e, ok := first.next(); !ok || e.Event != "open" {
		t.Fatalf("the stream begins with %+v", e)
	}
	s.push(1)                // connections to the vendor
	s.publish("upOther", "") // and one of ours to each listener, which stay
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range 100 {
		c, err := net.Dial("tcp", s.distributor())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /upHeld/json HTTP/1.1\r\nHost: x\r\n\r\n")
		held = append(held, c)
	}
	program.Eventually(t, "runs out", func() bool {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
		return err == nil && len(open) >= most
	})
	if status := s.publish("upFirst", "one"); status != 200 {
		t.Errorf("publish over a kept connection = %d", status)
	}
	if e, ok := first.next(); !ok || e.Message != "one" {
		t.Errorf("open stream received %+v", e)
	}
	for _, c := range held {
		c.Close()
	}
	second := s.curl("upFirst", "all")
	if e, ok := second.next(); !ok || e.Event != "open" {
		t.Errorf("with room again the stream begins with %+v", e)
	}
	s.push(3)
}
