package nameserver

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/nameproto"
)

// startReal runs a server on an embedded store of its own.
func startReal(tb testing.TB, change func(*Config)) *Server {
	tb.Helper()
	cfg := testConfig()
	cfg.StateDir = tb.TempDir()
	cfg.Ledger.Visibility = VisibilityPublic
	if change != nil {
		change(&cfg)
	}
	s, err := New(tb.Context(), cfg, Deps{})
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, s)
	return s
}

// TestRecordedExchangesOnLedger is TestRecordedExchanges with the real thing
// underneath.
func TestRecordedExchangesOnLedger(t *testing.T) {
	replayExchanges(t, startReal(t, nil))
}

// TestRestartKeepsAnswers closes the server and opens its files again.
func TestRestartKeepsAnswers(t *testing.T) {
	dir := t.TempDir()
	v := vectors(t)[0]
	var before string
	t.Run("first", func(t *testing.T) {
		s := startReal(t, func(c *Config) { c.StateDir = dir })
		if status, _, body := ask(t, s, "POST", "/name/alice", v.Body); status != 200 {
			t.Fatal(status, body)
		}
		_, _, before = ask(t, s, "GET", "/name/alice", "")
	})
	s := startReal(t, func(c *Config) { c.StateDir = dir })
	if status, _, body := ask(t, s, "GET", "/name/alice", ""); status != 200 || body != before {
		t.Errorf("after the restart %d %s, before %s", status, body, before)
	}
	if status, _, body := ask(t, s, "POST", "/name/alice", v.Body); status != 200 {
		t.Errorf("repeat after the restart: %d %s", status, body)
	}
	if status, _, _ := ask(t, s, "POST", "/name/alice", vectors(t)[5].Body); status != 403 {
		t.Errorf("taken after the restart: %d", status)
	}
}

// parseProof reads a proof in either of its forms.
func parseProof(tb testing.TB, body string) (p ledger.Proof) {
	tb.Helper()
	var err error
	if strings.HasPrefix(body, "{") {
		err = json.Unmarshal([]byte(body), &p)
	} else {
		err = p.UnmarshalText([]byte(body))
	}
	if err != nil {
		tb.Fatalf("%v in %s", err, body)
	}
	return p
}

func TestProofs(t *testing.T) {
	s := startReal(t, nil)
	for _, i := range []int{0, 6} {
		if status, _, body := ask(t, s, "POST", "/name/"+vectors(t)[i].Name, vectors(t)[i].Body); status != 200 {
			t.Fatal(status, body)
		}
	}
	v, err := ledger.ParseVerifier(s.reader.VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	log := note.VerifierList(v)
	addr := "e2c78a2541940127445eafcdbb101d06f778c32d"
	for _, tt := range []struct {
		target string
		name   string // "" means proven absent
	}{
		{"/v1/names/Alice/proof", "alice"}, {"/v1/names/nobody/proof", ""}, {"/ledger/proof/bob", "bob"},
		{"/v1/addresses/" + addr + "/proof", "alice"}, {"/ledger/proof/addr/0x" + addr, "alice"},
		{"/v1/addresses/" + strings.Repeat("0", 40) + "/proof", ""},
	} {
		status, _, body := ask(t, s, "GET", tt.target, "")
		if status != 200 {
			t.Errorf("GET %s = %d %s", tt.target, status, body)
			continue
		}
		p := parseProof(t, body)
		verdict, err := p.Verify(s.cfg.Ledger.Origin, log)
		if err != nil {
			t.Errorf("GET %s: %v", tt.target, err)
			continue
		}
		got := ""
		if r := verdict.Register(); r != nil {
			got = r.Name
		}
		if got != tt.name {
			t.Errorf("GET %s proves %q, want %q", tt.target, got, tt.name)
		}
	}
	for target, want := range map[string]int{"/name/alice?proof=1": 200, "/name/nobody?proof=1": 404} {
		status, _, body := ask(t, s, "GET", target, "")
		var answer struct{ Proof json.RawMessage }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != want {
			t.Fatalf("GET %s = %d %s", target, status, body)
		}
		p := parseProof(t, string(answer.Proof))
		if _, err := p.Verify(s.cfg.Ledger.Origin, log); err != nil {
			t.Errorf("GET %s: %v", target, err)
		}
		if e, err := nameproto.ParseEntry([]byte(body)); (err == nil) != (want == 200) || err == nil && e.Verify() != nil {
			t.Errorf("GET %s: entry %v, %v", target, e, err)
		}
	}
}

func TestOwnAPI(t *testing.T) {
	s := startReal(t, nil)
	v := vectors(t)[0]
	if status, _, body := ask(t, s, "POST", "/name/alice", v.Body); status != 200 {
		t.Fatal(status, body)
	}
	for target, want := range map[string][]string{
		"/v1/status":      {`"registration":"open"`, `"names":1`, `"ready":true`},
		"/v1/names/ALICE": {`"address":"e2c78a2541940127445eafcdbb101d06f778c32d"`, `"owner":"4b9f8898`},
		"/v1/addresses/e2c78a2541940127445eafcdbb101d06f778c32d": {`"name":"alice"`},
		"/v1/names/alice/availability":                           {`"available":false`, `"reason":"taken"`},
		"/v1/names/nobody/availability":                          {`"available":true`},
		"/v1/names/admin/availability":                           {`"available":false`, `"reason":"refused"`},
		"/v1/names/a.b/availability":                             {`"available":false`, `"reason":"bad_name"`},
		"/v1/checkpoint":                                         {`"origin":"localhost/names"`, `"signatures":["localhost/names"]`},
		"/v1/entries":                                            {`"kind":"register"`, `"kind":"policy"`, `"kind":"map_root"`},
		"/v1/entries?limit=1":                                    {`"next_cursor":"`},
		"/v1/entries/0":                                          {`"kind":"key"`},
		"/v1/openapi.yaml":                                       {"openapi: 3.1.0"},
		"/ledger/checkpoint":                                     {"localhost/names\n", "\n— localhost/names "},
		"/ledger/checkpoint?after=1":                             {"localhost/names\n"},
		"/ledger/vkeys":                                          {"localhost/names+"},
		"/ledger/policy":                                         {"registration open\n"},
		"/ledger/tile/entries/000.p/1":                           {"localhost/names+"},
		"/log":                                                   {"alice</a>", "map of 2 keys"},
	} {
		status, _, body := ask(t, s, http.MethodGet, target, "")
		for _, w := range want {
			if status != 200 || !strings.Contains(body, w) {
				t.Errorf("GET %s = %d %s, want %s", target, status, body, w)
			}
		}
	}
	for target, want := range map[string]int{
		"/v1/names/nobody": 404, "/v1/names/a.b": 400, "/v1/addresses/x": 400, "/v1/entries/99999": 404, "/v1/entries/x": 400,
		"/v1/entries?limit=0": 400, "/v1/entries?limit=999": 400, "/v1/entries?cursor=-1": 400, "/v1/nothing": 404,
	} {
		status, header, body := ask(t, s, http.MethodGet, target, "")
		if status != want || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"type":"/docs/errors#nameserver-`) {
			t.Errorf("GET %s = %d %s", target, status, body)
		}
	}
}

func TestVisibility(t *testing.T) {
	const token = "sixteen-letters-or-more"
	file := writeFile(t, "# mirrors\n"+token+"\n")
	guarded := []string{"/ledger/tile/entries/000.p/1", "/ledger/tile/0/000.p/1", "/ledger/tile/evidence/000.p/1"}
	browse := []string{"/v1/entries", "/v1/entries/0"}
	open := []string{"/ledger/checkpoint", "/ledger/vkeys", "/ledger/policy", "/v1/checkpoint", "/v1/status", "/v1/names/nobody/proof"}
	for _, tt := range []struct {
		visibility     Visibility
		token          string
		mirror, browse bool
	}{
		{VisibilityPublic, "", true, true},
		{VisibilityToken, "", false, false},
		{VisibilityToken, "wrong", false, false},
		{VisibilityToken, token, true, true},
		{VisibilityFollowers, "", false, false},
		{VisibilityFollowers, token, true, false},
	} {
		s := startReal(t, func(c *Config) { c.Ledger.Visibility = tt.visibility; c.Ledger.TokensFile = file })
		for _, group := range []struct {
			targets []string
			allowed bool
		}{{guarded, tt.mirror}, {browse, tt.browse}, {open, true}} {
			for _, target := range group.targets {
				if status := getWithToken(t, s, target, tt.token); (status == 200) != group.allowed {
					t.Errorf("%s, token %q: GET %s = %d, want allowed %v", tt.visibility, tt.token, target, status, group.allowed)
				}
			}
		}
	}
}

func getWithToken(t *testing.T, s *Server, target, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr()+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// TestNoSilentNewLedger: a server whose store is gone must not start as if
// nobody had ever registered.
func TestNoSilentNewLedger(t *testing.T) {
	cfg := testConfig()
	cfg.StateDir = t.TempDir()
	cfg.Listen = "0.0.0.0:0"
	if _, err := New(t.Context(), cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("New on an empty directory: %v", err)
	}
	cfg.Listen = "127.0.0.1:0" // a trial creates its own, but never again for the same key
	s, err := New(t.Context(), cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	stopped(t, s)
	removeStore(t, cfg.StateDir)
	if _, err := New(t.Context(), cfg, Deps{}); err == nil || !strings.Contains(err.Error(), "no ledger") {
		t.Errorf("New after the store was lost: %v", err)
	}
}
