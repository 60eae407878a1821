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

// asBare makes it be a server that does nothing, on the address in its first
// argument.
const asBare = "JIRANI_TEST_AS_BARE"

func TestMain(m *testing.M) {
	if os.Getenv(asBare) != "" {
		os.Stderr.WriteString(bare(os.Args[1]).Error() + "\n")
		os.Exit(1)
	}
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
