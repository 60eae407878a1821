package nameserver

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/httpapi/openapitest"
)

func TestOpenAPI(t *testing.T) {
	b := newMemory().backend()
	b.witness = http.NotFoundHandler()
	s, err := newServer(testConfig(), filled(Deps{}), b)
	if err != nil {
		t.Fatal(err)
	}
	s.closeListeners()
	openapitest.Routes(t, openapi, s.routes(), func(route string) string {
		route = strings.ReplaceAll(route, "{part:owner|publickey|signature}", "{part}")
		return strings.Replace(route, "/tile/*", "/tile/{path}", 1)
	})
	openapitest.Schemas(t, openapi, Registration{}, Availability{}, Status{}, NameRule{}, Checkpoint{}, Entries{}, LogEntry{}, httpapi.Problem{})
	openapitest.References(t, openapi)
}
