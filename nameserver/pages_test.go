package nameserver

import (
	"net/http"
	"strings"
	"testing"
)

func TestSearchPage(t *testing.T) {
	s := start(t, testConfig(), newMemory().backend())
	if status, _, body := ask(t, s, "POST", "/name/alice", vectors(t)[0].Body); status != 200 {
		t.Fatal(status, body)
	}
	for target, want := range map[string]struct {
		status int
		text   string
	}{
		"/":                                 {200, "autofocus"},
		"/?name=Alice":                      {200, "e2c78a2541940127445eafcdbb101d06f778c32d"},
		"/?name=" + strings.Repeat("0", 40): {404, "Nobody has it"},
		"/?name=e2c78a2541940127445eafcdbb101d06f778c32d": {200, "<h2>alice</h2>"},
		"/?name=nobody":               {404, "data-prove=\"nobody\""},
		"/?name=%3Cscript%3Ealert(1)": {400, "can never exist"},
	} {
		status, header, body := ask(t, s, "GET", target, "")
		if status != want.status || !strings.Contains(body, want.text) {
			t.Errorf("GET %s = %d, want %d with %q in\n%s", target, status, want.status, want.text, body)
		}
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("GET %s: policy %q", target, csp)
		}
		if strings.Contains(body, "<script>") {
			t.Errorf("GET %s: a name became a script", target)
		}
	}
	for _, asset := range []string{"/style.css", "/page.js", "/proof.js", "/plaincrypto.js"} {
		if status, _, body := ask(t, s, http.MethodGet, asset, ""); status != 200 || len(body) < 100 {
			t.Errorf("GET %s = %d, %d bytes", asset, status, len(body))
		}
	}
}
