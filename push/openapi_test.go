package push

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

	"github.com/jirani/jirani/internal/httpapi"
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

func readOpenAPI(t *testing.T) (d document) {
	t.Helper()
	if err := yaml.Unmarshal(openapi, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestOpenAPIRoutes holds the document to the routes, both ways.
func TestOpenAPIRoutes(t *testing.T) {
	s := &Server{cfg: Default()}
	var served, written []string
	err := chi.Walk(s.routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range readOpenAPI(t).Paths {
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

// TestOpenAPISchemas holds the document's objects to the structs that are
// sent.
func TestOpenAPISchemas(t *testing.T) {
	schemas := readOpenAPI(t).Components.Schemas
	for _, v := range []any{
		Batch{}, Push{}, BatchResult{}, PushResult{}, DeadTokens{}, DeadToken{}, VAPIDKey{}, httpapi.Problem{},
	} {
		typ := reflect.TypeOf(v)
		var fields, required []string
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

// TestOpenAPIReferences follows every reference in the document.
func TestOpenAPIReferences(t *testing.T) {
	var root map[string]any
	if err := yaml.Unmarshal(openapi, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if err := resolve(root, ref); err != nil {
					t.Error(err)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(root)
}

func resolve(root map[string]any, ref string) error {
	var at any = root
	for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		m, _ := at.(map[string]any)
		if at = m[part]; at == nil {
			return fmt.Errorf("%s leads nowhere", ref)
		}
	}
	return nil
}
