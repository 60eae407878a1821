package webui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestStyleIsCached(t *testing.T) {
	h := Headers(Style())
	first := httptest.NewRecorder()
	h.ServeHTTP(first, httptest.NewRequest("GET", "/style.css", nil))
	if first.Code != 200 || !strings.HasPrefix(first.Header().Get("Content-Type"), "text/css") || first.Body.Len() == 0 {
		t.Fatalf("answer = %d %v", first.Code, first.Header())
	}
	if p := first.Header().Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
		t.Errorf("policy = %s", p)
	}
	again := httptest.NewRequest("GET", "/style.css", nil)
	again.Header.Set("If-None-Match", first.Header().Get("ETag"))
	second := httptest.NewRecorder()
	h.ServeHTTP(second, again)
	if second.Code != http.StatusNotModified || second.Body.Len() != 0 {
		t.Errorf("second answer = %d with %d bytes", second.Code, second.Body.Len())
	}
}

func TestStyleLoadsNothingFromOutside(t *testing.T) {
	css, err := files.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"http:", "https:", "url(", "@import"} {
		if strings.Contains(string(css), s) {
			t.Errorf("style sheet contains %s", s)
		}
	}
}
