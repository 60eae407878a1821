package nameserver

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/wait"
)

// startMirror runs a mirror of the server until the test ends.
func startMirror(t *testing.T, of *Server, change func(*Config)) *Server {
	t.Helper()
	return startReal(t, func(c *Config) {
		c.Policy.Mode = ""
		c.Follow.URL, c.Follow.VKey = "http://"+of.Addr(), of.reader.VKeys()[0]
		if change != nil {
			change(c)
		}
	})
}

// eventually polls until ok or a deadline that only a broken server meets.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if wait.For(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestMirror follows a writer with tokens, answers from its own store, sends
// registrations on and is seen to have them, and knows its own staleness.
func TestMirror(t *testing.T) {
	const token = "a-token-for-mirrors"
	v := vectors(t)
	writer, stop := startStoppable(t, func(c *Config) {
		c.Ledger.Visibility, c.Ledger.TokensFile = VisibilityFollowers, writeFile(t, token)
	})
	if status, _, body := ask(t, writer, "POST", "/name/alice", v[0].Body); status != 200 {
		t.Fatal(status, body)
	}
	m := startMirror(t, writer, func(c *Config) {
		c.Follow.TokenFile, c.Follow.MaxStale = writeFile(t, token+"\n"), 2*time.Second
		c.Limits.Hold, c.Follow.Name = 3*time.Second, "ns2.example <b>"
	})
	eventually(t, "the mirror has alice", func() bool {
		status, _, _ := ask(t, m, "GET", "/name/alice", "")
		return status == 200
	})
	_, _, want := ask(t, writer, "GET", "/name/alice", "")
	if _, _, got := ask(t, m, "GET", "/name/alice", ""); got != want {
		t.Errorf("mirror answers %s, writer %s", got, want)
	}
	eventually(t, "the writer lists the mirror, with all it has", func() bool {
		_, _, body := ask(t, writer, "GET", "/log", "")
		_, _, api := ask(t, writer, "GET", "/v1/status", "")
		return strings.Contains(body, "<td>ns2.example &lt;b&gt;</td>") && strings.Contains(api, `"followers":[{"name":"ns2.example `)
	})
	for _, st := range []struct {
		method, target, body string
		want                 int
	}{
		{"GET", "/name/nobody", "", 404},
		{"POST", "/name/bob", v[6].Body, 200},
		{"GET", "/name/bob", "", 200},
		{"POST", "/i/some-invite/name/bob", v[6].Body, 200},
		{"POST", "/name/alice", v[5].Body, 403},
		{"POST", "/name/abc", v[0].Body, 401},
		{"POST", "/name/alice", "{}", 400},
	} {
		if status, _, body := ask(t, m, st.method, st.target, st.body); status != st.want {
			t.Errorf("%s %s = %d %s, want %d", st.method, st.target, status, body, st.want)
		}
	}
	stop()
	eventually(t, "a miss is not sure any more", func() bool {
		status, _, _ := ask(t, m, "GET", "/name/nobody", "")
		return status == 503
	})
	if status, _, _ := ask(t, m, "GET", "/name/bob", ""); status != 200 {
		t.Errorf("what is known: status %d", status)
	}
	if status, h, _ := ask(t, m, "POST", "/name/carol", v[0].Body); status != 503 || h.Get("Retry-After") == "" {
		t.Errorf("registration without a writer: status %d", status)
	}
}

// TestFollowersAreBounded has more mirrors tell their names than are kept.
func TestFollowersAreBounded(t *testing.T) {
	var f followers
	now := time.Unix(1_800_000_000, 0)
	for i := range maxFollowers + 5 {
		f.note(Follower{Name: strconv.Itoa(i), SeenAt: now})
	}
	if got := len(f.list(now)); got != maxFollowers {
		t.Errorf("%d mirrors are listed, want %d", got, maxFollowers)
	}
	later := now.Add(followerGone + time.Second)
	f.note(Follower{Name: "late", Size: 7, SeenAt: later})
	if got := f.list(later); len(got) != 1 || got[0].Name != "late" || got[0].Size != 7 {
		t.Errorf("mirrors after the others have gone: %v", got)
	}
}

// startStoppable is startReal for a server that a test stops itself.
func startStoppable(t *testing.T, change func(*Config)) (s *Server, stop func()) {
	t.Helper()
	cfg := testConfig()
	cfg.StateDir = t.TempDir()
	change(&cfg)
	var checks health.Checks
	s, err := New(t.Context(), cfg, Deps{Health: &checks})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return s, stop
}
