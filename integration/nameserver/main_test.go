package nameserver

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
)

// asServer makes this test binary be the name server, with its arguments, so
// that a test can run the server in another network namespace and kill it.
const asServer = "JIRANI_TEST_AS_NAMESERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		os.Exit(service.Main(nameserver.Role, os.Args[1:], os.Stdout, os.Stderr))
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString("nameserver: " + err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
