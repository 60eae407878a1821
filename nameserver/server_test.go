package nameserver

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is an open server on a port of its own.
func testConfig() Config {
	cfg := Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.Policy.Mode = policy.ModeOpen
	cfg.Limits.Hold = 20 * time.Second
	return cfg
}

// start runs a server on the backend until the test ends.
func start(tb testing.TB, cfg Config, b backend) *Server {
	tb.Helper()
	s, err := newServer(cfg, filled(Deps{}), b)
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, s)
	return s
}

func filled(d Deps) Deps { d.fill(); return d }

func run(tb testing.TB, s *Server) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
}

// ask sends one request as stock clients do, on a connection of its own.
func ask(tb testing.TB, s *Server, method, target, body string) (int, http.Header, string) {
	tb.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	raw := fmt.Sprintf("%s %s HTTP/1.1\r\nAccept: */*\r\nContent-Type: application/json\r\nHost: ns.example\r\nUser-Agent: JamiDHT\r\nConnection: close\r\n", method, target)
	if method == http.MethodPost {
		raw += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return roundTrip(tb, c, raw+"\r\n"+body)
}

func roundTrip(tb testing.TB, c net.Conn, raw string) (int, http.Header, string) {
	tb.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		tb.Fatalf("%.80q: %v", raw, err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res.StatusCode, res.Header, string(got)
}

type exchange struct {
	Request struct {
		Method, Target, Version, Body string
		Headers                       [][2]string
	}
	Answer struct {
		Status int
		Body   string
	}
}

// raw is the request as it was on the wire.
func (x exchange) raw() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", x.Request.Method, x.Request.Target, x.Request.Version)
	for _, h := range x.Request.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	return b.String() + "\r\n" + x.Request.Body
}

func loadJSON[T any](tb testing.TB, file string) (v T) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

func exchanges(tb testing.TB) []exchange {
	return loadJSON[[]exchange](tb, "nameproto/testdata/exchanges.json")
}

// TestRecordedExchanges replays what a real client sent, byte for byte, and
// compares statuses and bodies with answers that client understood. Spacing
// and error texts of the recording are another server's.
func TestRecordedExchanges(t *testing.T) {
	replayExchanges(t, start(t, testConfig(), newMemory().backend()))
}

func replayExchanges(t *testing.T, s *Server) {
	t.Helper()
	for _, x := range exchanges(t) {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		status, _, body := roundTrip(t, c, x.raw())
		c.Close()
		if status != x.Answer.Status {
			t.Errorf("%s %s: status %d (%s), want %d", x.Request.Method, x.Request.Target, status, body, x.Answer.Status)
		}
		if status == 200 {
			want := strings.NewReplacer(": ", ":", ", ", ",").Replace(x.Answer.Body)
			if body != want {
				t.Errorf("%s %s:\n%s\nwant\n%s", x.Request.Method, x.Request.Target, body, want)
			}
			continue
		}
		var fields struct {
			Success *bool
			Error   string
		}
		if err := json.Unmarshal([]byte(body), &fields); err != nil || fields.Error == "" {
			t.Errorf("%s: body %q does not say what is wrong", x.Request.Target, body)
		}
		if isPost := x.Request.Method == "POST"; isPost != (fields.Success != nil) || isPost && *fields.Success {
			t.Errorf("%s: body %q", x.Request.Target, body)
		}
	}
}

type registrationVector struct {
	Name, Body, Why string
	Valid           bool
}

func vectors(tb testing.TB) []registrationVector {
	return loadJSON[[]registrationVector](tb, "nameproto/testdata/registrations.json")
}

// TestRegistrationVectors sends each recorded body to a server of its own, and
// what was made wrong from it.
func TestRegistrationVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name+"/"+v.Why, func(t *testing.T) {
			m := newMemory()
			s := start(t, testConfig(), m.backend())
			status, _, body := ask(t, s, "POST", "/name/"+v.Name, v.Body)
			if v.Valid && (status != 200 || body != `{"success":true}`) {
				t.Errorf("answer %d %s", status, body)
			}
			if !v.Valid && status != 400 && status != 401 {
				t.Errorf("status %d, want 400 or 401", status)
			}
			if stored := len(m.names) == 1; stored != v.Valid {
				t.Errorf("stored = %v, want %v", stored, v.Valid)
			}
		})
	}
}

func TestRegistrationStatuses(t *testing.T) {
	m := newMemory()
	m.reserved["abc"] = true
	s := start(t, testConfig(), m.backend())
	v := vectors(t)
	alice, abc, other, bob := v[0], v[1], v[5], v[6]
	steps := []struct {
		name, target, body string
		want               int
	}{
		{"reserved by the operator", "/name/abc", abc.Body, 403},
		{"first", "/name/alice", alice.Body, 200},
		{"repeat", "/name/alice", alice.Body, 200},
		{"repeat under an invite that does not exist", "/i/no-such-invite/name/alice", alice.Body, 200},
		{"second name of one account", "/name/a-b_c-9", v[2].Body, 403},
		{"taken", "/name/alice", other.Body, 403},
		{"reserved by default", "/name/admin", bob.Body, 403},
		{"not JSON", "/name/bob", "{", 400},
		{"empty", "/name/bob", "", 400},
		{"huge", "/name/bob", strings.Repeat("x", nameproto.MaxBody+1), 400},
		{"impossible name", "/name/b.b", bob.Body, 400},
		{"no name", "/name/", bob.Body, 400},
		{"bad escape", "/name/%2", bob.Body, 400},
		{"slash in the name", "/name/a%2Fb", bob.Body, 400},
		{"deeper path", "/name/bob/x", bob.Body, 400},
		{"another name's body", "/name/bobby", bob.Body, 401},
		{"lookalike of the taken", "/name/al1ce", bob.Body, 401},
		{"then good", "/name/bob", bob.Body, 200},
		{"percent-encoded repeat", "/name/%62ob", bob.Body, 200},
	}
	for _, st := range steps {
		status, _, body := ask(t, s, "POST", st.target, st.body)
		if status != st.want {
			t.Errorf("%s: status %d (%s), want %d", st.name, status, body, st.want)
		}
		want := fmt.Sprintf(`"success":%v`, st.want == 200)
		if !strings.Contains(body, want) && st.name != "bad escape" { // net/http's own answer
			t.Errorf("%s: body %s, want %s", st.name, body, want)
		}
	}
}

func TestLookupForms(t *testing.T) {
	s := start(t, testConfig(), newMemory().backend())
	v := vectors(t)[4] // mixed-case_name
	if status, _, body := ask(t, s, "POST", "/name/"+v.Name, v.Body); status != 200 {
		t.Fatal(status, body)
	}
	req, err := nameproto.ParseRegistration([]byte(v.Body))
	if err != nil {
		t.Fatal(err)
	}
	want := string(nameproto.AppendEntry(nil, req.Entry(v.Name)))
	addr := req.Addr.String()
	for target, want := range map[string]string{
		"/name/mixed-case_name":          want,
		"/name/Mixed-Case_Name":          want,
		"/name/MIXED%2DCASE%5FNAME":      want,
		"/i/some-token/name/" + v.Name:   want,
		"/addr/" + addr:                  `{"name":"mixed-case_name"}`,
		"/addr/0x" + addr:                `{"name":"mixed-case_name"}`,
		"/addr/" + strings.ToUpper(addr): `{"name":"mixed-case_name"}`,
		"/i/some-token/addr/" + addr:     `{"name":"mixed-case_name"}`,
		"/name/mixed-case_name/owner":    `{"owner":"` + req.Owner + `"}`,
	} {
		status, header, body := ask(t, s, "GET", target, "")
		if status != 200 || body != want {
			t.Errorf("GET %s = %d %s, want %s", target, status, body, want)
		}
		if header.Get("Content-Length") != fmt.Sprint(len(body)) || header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s: headers %v", target, header)
		}
	}
	for target, want := range map[string]int{
		"/name/nobody": 404, "/name/no": 400, "/name/zo%C3%A9": 400, "/name/" + strings.Repeat("a", 33): 400,
		"/addr/" + strings.Repeat("0", 40): 404, "/addr/x": 400, "/addr/": 400, "/name/%ff%fe%fd": 400,
		"/i/" + strings.Repeat("t", maxInvite+1) + "/name/alice": 400, "/nothing": 404,
	} {
		if status, _, body := ask(t, s, "GET", target, ""); status != want || !strings.Contains(body, `"error"`) {
			t.Errorf("GET %s = %d %s, want %d", target, status, body, want)
		}
	}
}

func TestUnicodeNames(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.Unicode = true
	s := start(t, cfg, newMemory().backend())
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const sent = "E\u0301lodie" // decomposed, and upper case beyond ASCII: the client folds neither
	reg, err := nameproto.Sign(key, sent)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := ask(t, s, "POST", "/name/E%CC%81lodie", string(nameproto.AppendRegistration(nil, reg))); status != 200 {
		t.Fatal(status, body)
	}
	for _, target := range []string{"/name/E%CC%81lodie", "/name/%C3%89lodie", "/name/%C3%A9LODIE"} {
		status, _, body := ask(t, s, "GET", target, "")
		e, err := nameproto.ParseEntry([]byte(body))
		if status != 200 || err != nil || e.Name != sent || e.Verify() != nil {
			t.Errorf("GET %s = %d %s", target, status, body)
		}
	}
}

func TestInvites(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.Mode = policy.ModeInvite
	m := newMemory()
	m.invites[string(inviteHash("welcome-to-us"))] = 1
	s := start(t, cfg, m.backend())
	v := vectors(t)
	for _, st := range []struct {
		target, body string
		want         int
	}{
		{"/name/alice", v[0].Body, 403},
		{"/i/wrong/name/alice", v[0].Body, 403},
		{"/i/welcome-to-us/name/alice", v[0].Body, 200},
		{"/i/welcome-to-us/name/alice", v[0].Body, 200},
		{"/name/alice", v[0].Body, 200},
		{"/i/welcome-to-us/name/bob", v[6].Body, 403},
	} {
		if status, _, body := ask(t, s, "POST", st.target, st.body); status != st.want {
			t.Errorf("POST %s = %d %s, want %d", st.target, status, body, st.want)
		}
	}
}

// TestNeverFinalWhileUnsure holds the rule that clients force on us: whatever
// may pass is 503 with Retry-After, on every route.
func TestNeverFinalWhileUnsure(t *testing.T) {
	m := newMemory()
	cfg := testConfig()
	cfg.Limits.Hold = 50 * time.Millisecond
	s := start(t, cfg, m.backend())
	alice := vectors(t)[0]
	for _, err := range []error{
		registry.ErrNotReady, registry.ErrBusy, registry.ErrReadOnly, context.DeadlineExceeded, errors.New("disk on fire"),
	} {
		m.failing(func(string) error { return err })
		for _, x := range [][3]string{
			{"GET", "/name/alice", ""}, {"GET", "/name/alice?proof=1", ""}, {"GET", "/addr/" + strings.Repeat("0", 40), ""},
			{"POST", "/name/alice", alice.Body}, {"GET", "/v1/names/alice", ""}, {"GET", "/v1/names/alice/availability", ""},
		} {
			status, header, _ := ask(t, s, x[0], x[1], x[2])
			if status != 503 || header.Get("Retry-After") == "" {
				t.Errorf("%v: %s %s = %d, Retry-After %q", err, x[0], x[1], status, header.Get("Retry-After"))
			}
		}
	}
}

// TestHold lets the ledger fail for a while, longer than a request may take to
// arrive: the client waits and succeeds.
func TestHold(t *testing.T) {
	cfg := testConfig()
	m := newMemory()
	cfg.Limits.Read = time.Second
	m.failing(func(call string) error {
		if m.calls["register"] > 6 || call == "status" {
			return nil
		}
		return registry.ErrNotReady
	})
	s := start(t, cfg, m.backend())
	if status, _, body := ask(t, s, "POST", "/name/alice", vectors(t)[0].Body); status != 200 {
		t.Errorf("answer %d %s", status, body)
	}
	if n := m.called("register"); n != 7 {
		t.Errorf("%d attempts, want 7", n)
	}
}

func TestRateLimitHolds(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.RateBurst, cfg.Policy.RateInterval = 1, time.Hour
	s := start(t, cfg, newMemory().backend())
	v := vectors(t)
	if status, _, body := ask(t, s, "POST", "/name/alice", v[0].Body); status != 200 {
		t.Fatal(status, body)
	}
	if status, h, body := ask(t, s, "POST", "/name/bob", v[6].Body); status != 503 || h.Get("Retry-After") == "" {
		t.Errorf("over the rate: %d %s", status, body)
	}
	if status, _, body := ask(t, s, "POST", "/name/alice", v[0].Body); status != 200 {
		t.Errorf("repeat over the rate: %d %s", status, body)
	}
	if status, _, body := ask(t, s, "POST", "/name/alice", v[5].Body); status != 403 {
		t.Errorf("taken over the rate: %d %s", status, body)
	}
}

func TestClosed(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.Mode = policy.ModeClosed
	s := start(t, cfg, newMemory().backend())
	if status, _, body := ask(t, s, "POST", "/name/alice", vectors(t)[0].Body); status != 403 {
		t.Errorf("answer %d %s", status, body)
	}
}

func TestConcurrentRegistrationsOfOneName(t *testing.T) {
	s := start(t, testConfig(), newMemory().backend())
	v := vectors(t)
	var wg sync.WaitGroup
	statuses := make([]int, 16)
	for i := range statuses {
		wg.Go(func() {
			body := v[0].Body
			if i%2 == 1 {
				body = v[5].Body
			}
			statuses[i], _, _ = ask(t, s, "POST", "/name/alice", body)
		})
	}
	wg.Wait()
	won := map[int]int{}
	for i, st := range statuses {
		won[st*10+i%2]++
	}
	if won[2000]+won[4031] != 16 && won[2001]+won[4030] != 16 {
		t.Errorf("statuses %v: want success for one account and taken for the other", statuses)
	}
}

func TestReadiness(t *testing.T) {
	m := newMemory()
	var checks health.Checks
	s, err := newServer(testConfig(), filled(Deps{Health: &checks}), m.backend())
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	for _, want := range []error{nil, errors.New("reading the log")} {
		m.failing(func(string) error { return want })
		for _, r := range checks.Run(t.Context()) {
			if r.Name == "ledger" && (r.Err == nil) != (want == nil) {
				t.Errorf("check %s = %v, want %v", r.Name, r.Err, want)
			}
		}
	}
}

func TestRunReturnsWhenTheLedgerFails(t *testing.T) {
	b := newMemory().backend()
	broken := errors.New("broken")
	b.members[0].Runner = runFunc(func(context.Context) error { return broken })
	s, err := newServer(testConfig(), filled(Deps{}), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run = %v, want %v", err, broken)
	}
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := testConfig()
	cfg.Listen = ln.Addr().String()
	if _, err := newServer(cfg, filled(Deps{}), newMemory().backend()); err == nil {
		t.Error("a taken port is no error")
	}
}

// stopped releases a server that was never run.
func stopped(tb testing.TB, s *Server) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		tb.Error(err)
	}
}

func writeFile(tb testing.TB, content string) config.SecretFile {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return config.SecretFile(path)
}

func removeStore(tb testing.TB, dir string) {
	tb.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, databaseFile+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Fatal(err)
		}
	}
}
