// Package webui is the house style of the pages that Jirani's servers show to people: one style sheet, one policy on what a page may
// load, and pages that work on a phone, in the dark, by keyboard, and without scripts where that is possible.
//
// Pages are html/template sets that begin with {{template "head" .Title}} and end with {{template "foot"}}.
package webui

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"path"
)

//go:embed static/style.css static/frame.html
var files embed.FS

// contentPolicy lets a page load what its own server gives and nothing else.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Headers sets the content policy and its companions on every answer of h.
func Headers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentPolicy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.ServeHTTP(w, r)
	})
}

// Parse returns the templates of fsys that match the patterns, with the house's head and foot. A template that does not parse is a bug
// and panics.
func Parse(fsys embed.FS, patterns ...string) *template.Template {
	t := template.Must(template.ParseFS(files, "static/frame.html"))
	return template.Must(t.ParseFS(fsys, patterns...))
}

// Style serves the style sheet, for GET /style.css.
func Style() http.Handler { return Asset(files, "static/style.css") }

// Asset serves one embedded file with an entity tag, so that browsers ask again cheaply. A name that is not embedded is a bug and panics.
func Asset(fsys embed.FS, name string) http.Handler {
	content, err := fsys.ReadFile(name)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(content)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Write(content)
	})
}
