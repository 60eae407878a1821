package push

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/browser"
	"github.com/jirani/jirani/integration/program"
)

// stream is curl reading a topic's JSON lines, as ntfy's manual shows it.
type stream struct {
	t      *testing.T
	events chan event
	end    func()
}

func (s *server) curl(topic, since string) *stream {
	s.t.Helper()
	cmd := exec.Command(program.Require(s.t, "curl"), "--silent", "--no-buffer", "http://"+s.distributor()+"/"+topic+"/json?since="+since)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	r := &stream{t: s.t, events: make(chan event, 10_000)}
	var read sync.WaitGroup
	read.Go(func() { // ends with curl
		defer close(r.events)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				return // cut by the kill
			}
			r.events <- e
		}
	})
	r.end = sync.OnceFunc(func() { cmd.Process.Kill(); read.Wait(); cmd.Wait() })
	s.t.Cleanup(r.end)
	return r
}

// next returns the next event, or false when the stream has ended.
func (r *stream) next() (event, bool) {
	r.t.Helper()
	select {
	case e, ok := <-r.events:
		return e, ok
	case <-time.After(program.Patience):
		r.t.Fatal("stream is silent")
	}
	return event{}, false
}

// TestKilled kills the server again and again while messages come in. A receiver that names the last id it saw gets every message
// that was acknowledged, once and in order.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil)
	var acknowledged, received []string
	last := "all"
	for round := range 5 {
		r := s.curl("upKilled", last)
		if e, ok := r.next(); !ok || e.Event != "open" {
			t.Fatalf("the stream begins with %+v", e)
		}
		var publishing sync.WaitGroup
		publishing.Go(func() { // ends when the server is dead
			for i := 0; ; i++ {
				body := fmt.Sprintf("%d/%d", round, i)
				if s.publish("upKilled", body) != 200 {
					return
				}
				acknowledged = append(acknowledged, body)
			}
		})
		for range 20 * (round + 1) {
			if e, ok := r.next(); ok && e.Event == "message" {
				received, last = append(received, e.Message), e.ID
			}
		}
		s.Kill()
		publishing.Wait()
		for e, ok := r.next(); ok; e, ok = r.next() {
			if e.Event == "message" {
				received, last = append(received, e.Message), e.ID
			}
		}
		r.end()
		s = s.again(dir)
	}
	r := s.curl("upKilled", last)
	if status := s.publish("upKilled", "end"); status != 200 {
		t.Fatalf("publish = %d", status)
	}
	for {
		e, ok := r.next()
		if !ok || e.Message == "end" {
			break
		}
		if e.Event == "message" {
			received = append(received, e.Message)
		}
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d messages acknowledged", len(acknowledged))
	}
	once(t, acknowledged, received)
}

// once reports acknowledged messages that were not received exactly once and in order. What was sent and not acknowledged may have come.
func once(t *testing.T, acknowledged, received []string) {
	t.Helper()
	at := make(map[string]int, len(received))
	for i, m := range received {
		if _, twice := at[m]; twice {
			t.Errorf("%s received twice", m)
		}
		at[m] = i
	}
	before := -1
	for _, m := range acknowledged {
		i, ok := at[m]
		if !ok || i < before {
			t.Errorf("%s received: %v, in order: %v", m, ok, i >= before)
		}
		before = i
	}
}

// page is a browser's script as ntfy's manual shows it: an EventSource, which reconnects by itself, and a WebSocket that does so by hand,
// naming the last id.
const page = `
window.sse = []; window.ws = []; let last = "all";
new EventSource("/upPage/sse?since=all").onmessage = e => {
	const m = JSON.parse(e.data);
	if (m.event == "message" && !sse.includes(m.message)) sse.push(m.message);
};
function connect() {
	const w = new WebSocket("/upPage/ws?since=" + last);
	w.onmessage = e => { const m = JSON.parse(e.data); if (m.event == "message") { ws.push(m.message); last = m.id } };
	w.onclose = () => setTimeout(connect, 200);
}
connect();
`

// TestBrowser receives with Chromium's own EventSource and WebSocket, before and after the server was killed.
func TestBrowser(t *testing.T) {
	t.Parallel()
	tab := browser.Open(t, browser.Views[0])
	dir := t.TempDir()
	s := start(t, dir, nil)
	if status := s.publish("upPage", "kept"); status != 200 {
		t.Fatalf("publish = %d", status)
	}
	tab.Goto("http://" + s.distributor() + "/")
	browser.Eval[any](tab, page)
	shows := func(want string) {
		t.Helper()
		program.Eventually(t, "both have "+want, func() bool {
			return browser.Eval[string](tab, "sse.join()+'|'+ws.join()") == want+"|"+want
		})
	}
	shows("kept")
	s.publish("upPage", "live")
	shows("kept,live")
	s.Kill()
	s = s.again(dir)
	s.publish("upPage", "later")
	shows("kept,live,later")
}
