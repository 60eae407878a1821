package distributor

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
