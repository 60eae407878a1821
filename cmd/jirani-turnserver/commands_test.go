package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs a subcommand and returns status, standard output and standard error.
func call(name, stdin string, args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	code := commands[name](args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := filepath.Join(dir, "turn.yaml")
	if err := os.WriteFile(cfg, []byte("realms: [{name: example.org, sqlite: "+dir+"/users.db}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		stdin string
		args  []string
		code  int
		out   string
	}{
		{"", []string{"list", "-config", cfg}, 0, ""},
		{"secret\n", []string{"add", "-config", cfg, "ann"}, 0, ""},
		{"secret\n", []string{"add", "-config", cfg, "ann"}, 1, ""},
		{"", []string{"add", "-config", cfg, "bob"}, 1, ""},
		{"x", []string{"add", "-config", cfg, "b:b"}, 1, ""},
		{"x", []string{"add", "-config", cfg, "-realm", "elsewhere", "bob"}, 1, ""},
		{"", []string{"list", "-config", cfg}, 0, "ann\n"},
		{"", []string{"del", "-config", cfg, "ann"}, 0, ""},
		{"", []string{"del", "-config", cfg, "ann"}, 1, ""},
		{"", []string{"list"}, 1, ""}, // the default realm has no database
		{"", []string{"add", "-config", cfg}, 2, ""},
		{"", []string{"rename", "ann"}, 2, ""},
		{"", nil, 2, ""},
	} {
		code, out, errs := call("user", step.stdin, step.args...)
		if code != step.code || out != step.out || (code != 0) != strings.Contains(errs, "error: ") || strings.Contains(errs, "secret") {
			t.Errorf("user %v = %d, %q, %q; want %d, %q", step.args, code, out, errs, step.code, step.out)
		}
	}
}

func TestImportCoturn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "turnserver.conf"), filepath.Join(dir, "turn.yaml")
	if err := os.WriteFile(in, []byte("listening-ip=203.0.113.5\nrealm=example.org\nuser=ann:hush\nmobility\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, errs := call("import-coturn", "", in); code != 0 || !strings.Contains(stdout, "203.0.113.5:3478") || strings.Contains(stdout+errs, "hush") {
		t.Errorf("import-coturn = %d, %q, %q", code, stdout, errs)
	}
	code, _, errs := call("import-coturn", "", "-o", out, in)
	users, err := os.ReadFile(filepath.Join(dir, "users"))
	if code != 0 || err != nil || string(users) != "ann:hush\n" || !strings.Contains(errs, "mobility: no counterpart") {
		t.Errorf("import-coturn -o = %d, users %q, %v; %q", code, users, err, errs)
	}
	if code, _, errs := call("import-coturn", "", "-o", out, in); code != 1 || !strings.Contains(errs, "exists") {
		t.Errorf("import over an existing file = %d, %q", code, errs)
	}
	if code, _, _ := call("import-coturn", ""); code != 2 {
		t.Errorf("import-coturn without a file = %d, want 2", code)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"0": `{"total":2,"sessions":[{"id":7,"user":"ann","realm":"r","transport":"udp","client":"198.51.100.1:1000","server":"203.0.113.5:3478","relayed":["203.0.113.5:50000"]}],"next":7}`,
		"7": `{"total":2,"sessions":[{"id":9,"user":"bob","realm":"r","transport":"tcp","client":"198.51.100.2:1000","server":"203.0.113.5:3478","relayed":[]}]}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, pages[r.FormValue("after")]) }))
	defer srv.Close()
	code, out, errs := call("sessions", "", "-ops", srv.URL)
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, "ann@r") || !strings.Contains(out, "bob@r") {
		t.Errorf("sessions = %d, %q, %q", code, out, errs)
	}
	if code, _, _ := call("sessions", "", "-ops", "http://127.0.0.1:1"); code != 1 {
		t.Errorf("sessions of nobody = %d, want 1", code)
	}
}
