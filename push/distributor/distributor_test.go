package distributor

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running server on a directory, so that it can be started again.
type rig struct {
	t    *testing.T
	dir  string
	cfg  Config
	s    *Server
	http *httptest.Server
	stop func()
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), cfg: Default()}
	r.cfg.Enabled, r.cfg.State = true, r.dir
	if change != nil {
		change(&r.cfg)
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	s, err := New(r.cfg, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.s, r.http = s, httptest.NewServer(s.Handler())
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); r.http.Close() })
}

func (r *rig) restart() { r.stop(); r.start() }

type event struct {
	ID       string `json:"id"`
	Time     int64  `json:"time"`
	Expires  int64  `json:"expires"`
	Event    string `json:"event"`
	Topic    string `json:"topic"`
	Message  string `json:"message"`
	Encoding string `json:"encoding"`
}

func (r *rig) publish(topic, body string, header ...string) (int, event) {
	r.t.Helper()
	req, _ := http.NewRequestWithContext(r.t.Context(), "POST", r.http.URL+"/"+topic, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var e event
	json.NewDecoder(res.Body).Decode(&e)
	return res.StatusCode, e
}

// subscriber is the scripted client of ntfy's protocol, over any of its three streams.
type subscriber struct {
	t      *testing.T
	events chan event
	ended  chan struct{}
	cancel context.CancelFunc
}

func (r *rig) subscribe(kind, topics, query string) *subscriber {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &subscriber{t: r.t, events: make(chan event, 4096), ended: make(chan struct{}), cancel: cancel}
	target := r.http.URL + "/" + topics + "/" + kind + "?" + query
	var next func() ([]byte, error)
	if kind == "ws" {
		c, _, err := websocket.Dial(ctx, target, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		next = func() ([]byte, error) { _, b, err := c.Read(ctx); return b, err }
	} else {
		req, _ := http.NewRequestWithContext(ctx, "GET", target, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			r.t.Fatalf("subscribe: %v, %v", res, err)
		}
		br := bufio.NewReader(res.Body)
		next = func() ([]byte, error) { return nextLine(br, kind == "sse") }
	}
	go func() { // ends with the stream, at latest with cancel
		defer close(s.ended)
		for {
			b, err := next()
			if err != nil {
				return
			}
			var e event
			if err := json.Unmarshal(b, &e); err != nil {
				r.t.Errorf("stream carried %q", b)
				return
			}
			s.events <- e
		}
	}()
	r.t.Cleanup(s.close)
	return s
}

func nextLine(br *bufio.Reader, sse bool) ([]byte, error) {
	for {
		line, err := br.ReadBytes('\n')
		if err != nil || !sse {
			return line, err
		}
		if data, ok := strings.CutPrefix(string(line), "data: "); ok {
			return []byte(data), nil
		}
	}
}

func (s *subscriber) close() { s.cancel(); <-s.ended }

// next returns the next event of a kind.
func (s *subscriber) next(kind string) event {
	s.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-s.events:
			if e.Event == kind {
				return e
			}
		case <-timeout:
			s.t.Fatalf("no %s event", kind)
		}
	}
}

var kinds = []string{"json", "sse", "ws"}

// TestResume is the life of a phone: it receives, loses its connection, comes back with the last id it saw, and
// the server is restarted in between. Nothing may be missing, doubled or out of order.
func TestResume(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			s := r.subscribe(kind, "upA,upB", "since=none")
			if open := s.next(eventOpen); open.Topic != "upA,upB" || len(open.ID) != 12 {
				t.Errorf("open event %+v", open)
			}
			n, last := 0, ""
			send := func(topic string) {
				n++
				if status, e := r.publish(topic, fmt.Sprint("m", n)); status != 200 || e.Message != fmt.Sprint("m", n) {
					t.Fatalf("publish: %d %+v", status, e)
				}
			}
			got := 0
			receive := func() {
				t.Helper()
				e := s.next(eventMessage)
				got++
				if e.Message != fmt.Sprint("m", got) || (e.Topic != "upA" && e.Topic != "upB") {
					t.Fatalf("received %+v, want m%d", e, got)
				}
				last = e.ID
			}
			send("upA")
			send("upB")
			receive()
			receive()
			s.close()
			send("upA")
			s = r.subscribe(kind, "upA,upB", "since="+last)
			receive()
			send("upB")
			receive()
			s.close()
			send("upA")
			send("upC") // not ours
			r.restart()
			got0 := got
			s = r.subscribe(kind, "upA,upB", "since="+last)
			if e := s.next(eventMessage); e.Message != fmt.Sprint("m", got0+1) {
				t.Fatalf("after restart: %+v", e)
			}
			got++
			send("upB")
			got++ // m6 went to upC
			receive()
			select {
			case e := <-s.events:
				if e.Event == eventMessage {
					t.Errorf("extra message %+v", e)
				}
			default:
			}
		})
	}
}

// TestRestartUnderLoad restarts the server while messages come in and a receiver reconnects with since each time:
// every message answered with 200 arrives exactly once.
func TestRestartUnderLoad(t *testing.T) {
	r := newRig(t, func(c *Config) { c.PerTopic = 10_000 })
	var accepted []string
	received := map[string]int{}
	last := "all"
	for round := range 4 {
		s := r.subscribe(kinds[round%3], "upL", "since="+last)
		for i := range 200 {
			body := fmt.Sprintf("%d/%d", round, i)
			if status, _ := r.publish("upL", body); status == 200 {
				accepted = append(accepted, body)
			}
			if i == 150 {
				for range 20 {
					e := s.next(eventMessage)
					received[e.Message]++
					last = e.ID
				}
				s.close()
			}
		}
		r.restart()
	}
	s := r.subscribe("json", "upL", "poll=1&since="+last)
	<-s.ended
	for len(s.events) > 0 {
		received[(<-s.events).Message]++
	}
	for _, body := range accepted {
		if received[body] != 1 {
			t.Errorf("%s received %d times", body, received[body])
		}
	}
}

func TestSlowReceiverCatchesUp(t *testing.T) {
	r := newRig(t, func(c *Config) { c.PerTopic = 10_000 })
	s := r.subscribe("json", "upS", "")
	s.next(eventOpen)
	const n = 1500
	for i := range n {
		u, _ := url.Parse(r.cfg.URL + "/upS")
		if err := r.s.Publish(t.Context(), u, []byte(fmt.Sprint(i)), false, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if e := s.next(eventMessage); e.Message != fmt.Sprint(i) {
			t.Fatalf("message %d is %+v", i, e)
		}
	}
}

func TestSinceForms(t *testing.T) {
	r := newRig(t, nil)
	before := time.Now().Unix() - 5
	var ids []string
	for i := range 3 {
		_, e := r.publish("upF", fmt.Sprint(i))
		ids = append(ids, e.ID)
	}
	for query, want := range map[string]string{
		"poll=1":                              "012",
		"poll=1&since=all":                    "012",
		"poll=1&since=none":                   "",
		"poll=1&since=latest":                 "2",
		"poll=1&since=10m":                    "012",
		fmt.Sprint("poll=1&since=", before):   "012",
		"poll=true&since=" + ids[0]:           "12",
		"poll=1&since=" + ids[2]:              "",
		"poll=1&since=LaZ68JP2SJ95":           "012", // another server's id
		"po=1&si=" + ids[1]:                   "2",
		"poll=1&since=" + fmt.Sprint(1<<33-1): "",
	} {
		s := r.subscribe("json", "upF", query)
		<-s.ended
		got := ""
		for len(s.events) > 0 {
			got += (<-s.events).Message
		}
		if query != "poll=1&since=none" && got != want {
			t.Errorf("%s gave %q, want %q", query, got, want)
		}
	}
	res, err := http.Get(r.http.URL + "/upF/json?since=yesterday")
	if err != nil || res.StatusCode != 400 {
		t.Errorf("since=yesterday: %v %v", res, err)
	}
	res.Body.Close()
}

// TestRecorded compares answers with those recorded from ntfy 2.13 (testdata/ntfy-unifiedpush.json).
func TestRecorded(t *testing.T) {
	raw, err := os.ReadFile("testdata/ntfy-unifiedpush.json")
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		Exchanges []struct {
			Name    string `json:"name"`
			Request struct {
				Method, Path string
				Headers      map[string]string
				Body         *string
			} `json:"request"`
			Response struct {
				StatusLine string `json:"status_line"`
				Body       string
			} `json:"response"`
		} `json:"exchanges"`
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatal(err)
	}
	aes, _ := base64.StdEncoding.DecodeString("JsIr8F5Nf31FtqO9hnfchQAAEABBBOs8CyTrocVg5NfYT/lRcob/FFfZAFc/KE/IO7BAvfPPuVRtQvWYrBYB7UKuIgHENwYZ/1LrBeRFmymSI+GFSUL6cGb54DAEIbqAfOdmjQKEc4pQ8VRASermsK4SYqno30t6g8W09D43SMqv9CQYdILCxzkJGh23qZchv6RCuyCXt5KfPp76kQAxJ45StJz2b6HitFnBveO6wfC4i2ebwRXMxt3jxUOOQY0HCGIyZ1987+pui0pZR6Y7a0m8OsogTfLULUSFuEIUnlXbCqc=")
	r := newRig(t, nil)
	compared := 0
	for _, x := range rec.Exchanges {
		switch x.Name {
		case "up-discovery", "up-post-plain", "up-post-encrypted", "up-post-vapid-header", "up-post-empty", "up-post-badtopic", "up-post-topic-header":
		default:
			continue // other settings (507, 429), Matrix, and the length that ntfy cuts
		}
		compared++
		body := ""
		if x.Request.Body != nil {
			body = *x.Request.Body
		}
		if strings.HasPrefix(body, "<binary") {
			body = string(aes)
		}
		req, _ := http.NewRequest(x.Request.Method, r.http.URL+x.Request.Path, strings.NewReader(body))
		for name, v := range x.Request.Headers {
			if name != "Host" && name != "Content-Length" && name != "Connection" {
				req.Header.Set(name, v)
			}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := strings.Fields(x.Response.StatusLine)[1]; fmt.Sprint(res.StatusCode) != want {
			t.Errorf("%s: status %d, want %s", x.Name, res.StatusCode, want)
		}
		if g, w := shape(got), shape([]byte(x.Response.Body)); g != w {
			t.Errorf("%s:\ngot  %s\nwant %s", x.Name, g, w)
		}
	}
	if compared != 7 {
		t.Errorf("%d exchanges compared", compared)
	}
}

// shape is a JSON object with what differs from run to run taken out.
func shape(b []byte) string {
	var m map[string]any
	if json.Unmarshal(b, &m) != nil {
		return string(b)
	}
	for _, k := range []string{"id", "time", "expires"} {
		if _, ok := m[k]; ok {
			m[k] = "*"
		}
	}
	out, _ := json.Marshal(m)
	return string(out)
}

func TestWebPushHeaders(t *testing.T) {
	r := newRig(t, nil)
	poll := func() (out []string) {
		s := r.subscribe("json", "upW", "poll=1")
		<-s.ended
		for len(s.events) > 0 {
			out = append(out, (<-s.events).Message)
		}
		return out
	}
	live := r.subscribe("json", "upW", "")
	live.next(eventOpen)
	r.publish("upW", "now or never", "TTL", "0")
	if e := live.next(eventMessage); e.Message != "now or never" {
		t.Errorf("live receiver got %+v", e)
	}
	if got := poll(); len(got) != 0 {
		t.Errorf("TTL 0 was kept: %v", got)
	}
	r.publish("upW", "old", "TTL", "60", "Topic", "t1")
	r.publish("upW", "other", "TTL", "60", "Topic", "t2")
	r.publish("upW", "new", "TTL", "60", "Topic", "t1")
	if got := fmt.Sprint(poll()); got != "[other new]" {
		t.Errorf("kept %s", got)
	}
	for _, h := range [][]string{{"TTL", "soon"}, {"TTL", "-1"}, {"Topic", "a b"}} {
		if status, _ := r.publish("upW", "x", h...); status != 400 {
			t.Errorf("%v: status %d", h, status)
		}
	}
	if status, _ := r.publish("upW", strings.Repeat("x", 4096)); status != 200 {
		t.Errorf("4096 bytes: %d", status)
	}
	if status, _ := r.publish("upW", strings.Repeat("x", 4097)); status != 413 {
		t.Errorf("4097 bytes: %d", status)
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Exempt, c.PublishRate, c.PerAddress, c.PerTopic, c.MaxMessages = nil, 5, 2, 3, 4
	})
	for i := range 5 {
		if status, _ := r.publish("upA", fmt.Sprint(i)); status != 200 {
			t.Fatalf("publish %d: %d", i, status)
		}
	}
	if status, _ := r.publish("upA", "x"); status != 429 {
		t.Errorf("sixth publish in a minute: %d", status)
	}
	s := r.subscribe("json", "upA", "poll=1")
	<-s.ended
	if n := len(s.events); n != 3 {
		t.Errorf("%d messages kept of a topic, want 3", n)
	}
	a, b := r.subscribe("json", "upA", ""), r.subscribe("ws", "upA", "")
	a.next(eventOpen)
	b.next(eventOpen)
	res, err := http.Get(r.http.URL + "/upA/json")
	if err != nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Errorf("third stream: %v %v", res, err)
	}
	res.Body.Close()
	u, _ := url.Parse(r.cfg.URL + "/upB")
	if err := r.s.Publish(t.Context(), u, []byte("x"), false, time.Hour); err != nil {
		t.Error(err)
	}
	if err := r.s.Publish(t.Context(), u, []byte("x"), false, time.Hour); err != errStoreFull {
		t.Errorf("fifth kept message: %v", err)
	}
	a.close()
	b.close()
	for deadline := time.Now().Add(5 * time.Second); r.s.Stats().Receivers > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("receivers stay: %+v", r.s.Stats())
		}
		<-time.After(time.Millisecond)
	}
}

func TestRoutes(t *testing.T) {
	r := newRig(t, nil)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200}, {"GET", "/v1/health", 200}, {"GET", "/upX", 200}, {"GET", "/upX?up=1", 200},
		{"GET", "/upX/auth", 200}, {"OPTIONS", "/upX", 204}, {"PUT", "/upX", 200}, {"DELETE", "/upX", 404},
		{"GET", "/other", 404}, {"POST", "/other", 404}, {"GET", "/other/json", 404}, {"GET", "/upX/raw", 404},
		{"GET", "/upX,bad topic/json", 404}, {"POST", "/upX/json", 404}, {"GET", "/upX/json?poll=1", 200},
		{"GET", "/" + strings.Repeat("upX,", maxTopics) + "upX/json?poll=1", 400},
	} {
		req, _ := http.NewRequest(tc.method, r.http.URL+strings.ReplaceAll(tc.path, " ", "%20"), nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.status {
			t.Errorf("%s %.60s: %d, want %d", tc.method, tc.path, res.StatusCode, tc.status)
		}
	}
}

func TestExpiry(t *testing.T) {
	r := newRig(t, nil)
	r.publish("upE", "short", "TTL", "1")
	r.publish("upE", "long", "TTL", "3600")
	got, err := r.s.store.after(t.Context(), []string{"upE"}, 0, time.Now().Add(time.Minute))
	if err != nil || len(got) != 1 || string(got[0].body) != "long" {
		t.Errorf("after a minute: %v, %v", got, err)
	}
	if err := r.s.store.prune(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if kept := r.s.Stats().Kept; kept != 1 {
		t.Errorf("%d kept after pruning", kept)
	}
}

func TestKeepalive(t *testing.T) {
	r := newRig(t, nil)
	s := r.subscribe("sse", "upK", "")
	s.next(eventOpen)
	for slot := range slots {
		r.s.hub.keepalive(slot, time.Now())
	}
	if e := s.next(eventKeepalive); e.Topic != "upK" {
		t.Errorf("keepalive %+v", e)
	}
}

func TestHTTP2Stream(t *testing.T) {
	r := newRig(t, nil)
	srv := httptest.NewUnstartedServer(r.s.Handler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/upH/json", nil)
	res, err := srv.Client().Do(req)
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%v %v", res, err)
	}
	defer res.Body.Close()
	br := bufio.NewReader(res.Body)
	nextLine(br, false) // open
	r.publish("upH", "over two")
	if line, err := nextLine(br, false); err != nil || !strings.Contains(string(line), "over two") {
		t.Errorf("%s %v", line, err)
	}
}

func TestIDs(t *testing.T) {
	for _, seq := range []int64{0, 1, 61, 62, 1795244771123456, maxSeq - 1} {
		id := formatID(seq)
		if got, ok := parseID(id); !ok || got != seq || len(id) != idLen {
			t.Errorf("%d is %s is %d, %v", seq, id, got, ok)
		}
	}
}

func TestRates(t *testing.T) {
	r, a := newRates(60), netip.MustParseAddr("192.0.2.1")
	now := time.Unix(1e9, 0)
	for i := range 60 {
		if w := r.take(a, now); w != 0 {
			t.Fatalf("message %d must wait %v", i, w)
		}
	}
	if w := r.take(a, now); w != time.Second {
		t.Errorf("61st must wait %v, want 1s", w)
	}
	if w := r.take(netip.MustParseAddr("192.0.2.2"), now); w != 0 {
		t.Errorf("another address must wait %v", w)
	}
	if w := r.take(a, now.Add(time.Second)); w != 0 {
		t.Errorf("after a second: %v", w)
	}
}

func FuzzSince(f *testing.F) {
	for _, s := range []string{"", "all", "none", "latest", "10m", "1795244771", formatID(1795244771123456), "LaZ68JP2SJ95", "-5", "9e9"} {
		f.Add(s, true)
	}
	now := time.Unix(1795244771, 0)
	f.Fuzz(func(t *testing.T, s string, poll bool) {
		p, ok := parseSince(s, poll, now)
		if ok && p.after < 0 {
			t.Errorf("parseSince(%q) = %+v", s, p)
		}
		if seq, ok := parseID(s); ok && formatID(seq) != s {
			t.Errorf("id %q is %q again", s, formatID(seq))
		}
	})
}

func FuzzMessageJSON(f *testing.F) {
	f.Add([]byte(`{"key":"39b4"}`), false)
	f.Add([]byte{0xff, 0}, true)
	f.Fuzz(func(t *testing.T, body []byte, binary bool) {
		m := &message{seq: 1795244771123456, topic: "upX", body: body, binary: binary, expires: 1795287972}
		var e event
		if err := json.Unmarshal(m.appendJSON(nil), &e); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		got := []byte(e.Message)
		if e.Encoding == "base64" {
			got, _ = base64.StdEncoding.DecodeString(e.Message)
		}
		if string(got) != string(body) {
			t.Errorf("%q became %q", body, got)
		}
	})
}
