package card

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jirani/jirani/internal/logging"
	"go.uber.org/goleak"
)

type fakeNetwork struct{ broken string }

func (fakeNetwork) Host() string { return "192.0.2.7" }
func (fakeNetwork) Sections() []Section {
	return []Section{{"Connectivity", []Field{{Name: "TURN address", Value: "192.0.2.7:3478", Copy: true}}}}
}
func (f fakeNetwork) Roles(context.Context) []Role {
	return []Role{{Name: "Name server", Address: "http://192.0.2.7:8081", Err: f.broken}}
}
func (fakeNetwork) LookupName(_ context.Context, name string) (string, error) {
	switch name {
	case "alice":
		return strings.Repeat("ab", 20), nil
	case "down":
		return "", io.ErrUnexpectedEOF
	}
	return "", ErrNoSuchName
}

func newServer(t *testing.T, n Network) *Server {
	t.Helper()
	s, err := New("127.0.0.1:0", n, logging.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ln.Close() })
	return s
}

func get(t *testing.T, s *Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.srv.Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestPage(t *testing.T) {
	s := newServer(t, fakeNetwork{broken: "disk <full>"})
	tests := []struct{ path, want string }{
		{"/", `data-copy="192.0.2.7:3478"`},
		{"/", `<span class="state bad">Name server</span>`},
		{"/", `disk &lt;full&gt;`},
		{"/?name=alice", `alice is <code>abab`},
		{"/?name=bob", `bob: nobody has registered this name`},
		{"/?name=down", `the name server does not answer`},
		{"/?name=%3Cscript%3E", `&lt;script&gt;: nobody`},
		{"/?name=" + strings.Repeat("x", maxName+1), `no name is that long`},
		{"/card.js", `data-copy`},
		{"/qr.svg", `<svg xmlns=`},
	}
	for _, tt := range tests {
		w := get(t, s, tt.path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("GET %s = %d without %s:\n%s", tt.path, w.Code, tt.want, w.Body)
		}
		if w.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s has no content policy", tt.path)
		}
	}
	for _, outside := range []string{"<script>", "style=", "onclick", `src="http`} {
		if body := get(t, s, "/?name=alice").Body.String(); strings.Contains(body, outside) {
			t.Errorf("page contains %s, which its policy forbids", outside)
		}
	}
}

func TestJSON(t *testing.T) {
	s := newServer(t, fakeNetwork{})
	var card struct {
		URL   string
		Roles []Role
	}
	if err := json.Unmarshal(get(t, s, "/v1/card").Body.Bytes(), &card); err != nil || card.URL != s.URL() || len(card.Roles) != 1 {
		t.Errorf("card = %+v, %v", card, err)
	}
	if w := get(t, s, "/v1/names/alice"); w.Code != 200 || !strings.Contains(w.Body.String(), `"account":"abab`) {
		t.Errorf("names/alice = %d %s", w.Code, w.Body)
	}
	if w := get(t, s, "/v1/names/bob"); w.Code != 404 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("names/bob = %d %v", w.Code, w.Header())
	}
}

func TestRunEnds(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newServer(t, fakeNetwork{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + s.ln.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestTerminalQR(t *testing.T) {
	got, err := Terminal("http://192.0.2.7:8000/")
	if err != nil || strings.Count(got, "\n") < 12 || !strings.Contains(got, "▀") {
		t.Errorf("Terminal = %q, %v", got, err)
	}
}
