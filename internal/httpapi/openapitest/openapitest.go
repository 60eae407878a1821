// Package openapitest holds an OpenAPI document to the routes and structs of the server that it describes.
package openapitest

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

type document struct {
	Paths      map[string]map[string]any
	Components struct {
		Schemas map[string]struct {
			Required   []string
			Properties map[string]any
		}
	}
}

func read(t testing.TB, openapi []byte) (d document) {
	t.Helper()
	if err := yaml.Unmarshal(openapi, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Routes holds the document to the routes, both ways. rename, if not nil, turns a route's pattern into the document's path.
func Routes(t testing.TB, openapi []byte, routes chi.Routes, rename func(string) string) {
	t.Helper()
	var served, written []string
	err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if rename != nil {
			route = rename(route)
		}
		served = append(served, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range read(t, openapi).Paths {
		for method := range item {
			if method != "parameters" {
				written = append(written, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(served)
	slices.Sort(written)
	if diff := cmp.Diff(served, written); diff != "" {
		t.Errorf("routes and openapi.yaml differ (-served +written):\n%s", diff)
	}
}

// Schemas holds the document's objects to the structs that are sent: one schema per struct, of its name, with a property for each JSON
// member; members without omitempty are required.
func Schemas(t testing.TB, openapi []byte, sent ...any) {
	t.Helper()
	schemas := read(t, openapi).Components.Schemas
	for _, v := range sent {
		typ := reflect.TypeOf(v)
		fields, required := members(typ)
		schema := schemas[typ.Name()]
		var written []string
		for name := range schema.Properties {
			written = append(written, name)
		}
		for _, l := range [][]string{fields, required, written, schema.Required} {
			slices.Sort(l)
		}
		if diff := cmp.Diff(fields, written); diff != "" {
			t.Errorf("%s: properties (-sent +written):\n%s", typ.Name(), diff)
		}
		if diff := cmp.Diff(required, schema.Required, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: required (-sent +written):\n%s", typ.Name(), diff)
		}
	}
}

// members lists the JSON members of a struct and those that are always there.
func members(typ reflect.Type) (fields, required []string) {
	for i := range typ.NumField() {
		name, opts, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		fields = append(fields, name)
		if opts == "" {
			required = append(required, name)
		}
	}
	return fields, required
}

// References follows every reference in the document.
func References(t testing.TB, openapi []byte) {
	t.Helper()
	var root map[string]any
	if err := yaml.Unmarshal(openapi, &root); err != nil {
		t.Fatal(err)
	}
	follow(t, root, root)
}

func follow(t testing.TB, root map[string]any, v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			follow(t, root, e)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			if err := resolve(root, ref); err != nil {
				t.Error(err)
			}
		}
		for _, e := range v {
			follow(t, root, e)
		}
	}
}

func resolve(root map[string]any, ref string) error {
	var at any = root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, _ := at.(map[string]any)
		if at = m[part]; at == nil {
			return fmt.Errorf("%s leads nowhere", ref)
		}
	}
	return nil
}
