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
	"os"
	"strings"
	"testing"
	"time"
)

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
