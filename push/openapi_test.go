package push

import (
	"testing"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/httpapi/openapitest"
)

func TestOpenAPI(t *testing.T) {
	s := &Server{cfg: Default()}
	openapitest.Routes(t, openapi, s.routes(), nil)
	openapitest.Schemas(t, openapi, Batch{}, Push{}, BatchResult{}, PushResult{}, DeadTokens{}, DeadToken{}, VAPIDKey{}, httpapi.Problem{})
	openapitest.References(t, openapi)
}
