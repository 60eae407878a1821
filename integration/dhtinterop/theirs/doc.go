// Package theirs drives the reference implementation for tests: the program dhtnode by its prompt ([Node]) and the
// library through its Python binding ([Python]), both as Debian packages them (dhtnode, python3-opendht).
//
// The two complement each other. The prompt puts signed, encrypted and permanent values, listens with expiry and runs
// field queries, but only carries words of text and prints no other data; the binding carries any bytes and sees what
// was decrypted and verified, but cannot sign. Neither names the operation an answer belongs to, so each driver does one
// operation at a time.
//
// Processes belong to the test: they are killed at its end, and their output is logged if it failed.
package theirs

import (
	"os"
	"os/exec"
	"testing"
)

// python is Debian's own interpreter: the binding is built for it, whatever else PATH holds.
const python = "/usr/bin/python3"

// Require skips the test unless the reference programs are installed, or fails it where JIRANI_REQUIRE=1 promises them.
func Require(tb testing.TB) {
	tb.Helper()
	_, err := exec.LookPath("dhtnode")
	if err == nil {
		err = exec.Command(python, "-c", "import opendht").Run()
	}
	switch {
	case err == nil:
	case os.Getenv("JIRANI_REQUIRE") == "1":
		tb.Fatalf("dhtnode or python3-opendht missing: %v", err)
	default:
		tb.Skipf("dhtnode or python3-opendht missing: %v", err)
	}
}

// Value is what the reference shows of a value.
type Value struct {
	ID        uint64 `json:"id"`
	Data      []byte `json:"data"`
	UserType  string `json:"utype"`
	Signed    bool   `json:"signed"`    // it carries a signature, which the reference has checked
	Decrypted bool   `json:"decrypted"` // it was encrypted to the node that shows it
	Owner     string `json:"owner"`     // hex short key id of the signer; from Python only
	Expired   bool   `json:"expired"`   // in listens: it is gone
}

// Starter starts a command, such as in a namespace. nil means exec.Cmd.Start.
type Starter func(*exec.Cmd) error

// Options say how a node of theirs runs.
type Options struct {
	Bootstrap string // host:port, none if empty
	Port      int    // 0 = any
	Network   uint32
	Identity  bool   // make an identity; its certificate is published
	State     string // state file; Node only

	Certificate, PrivateKey string // files of the identity to run with; Node only
	SaveIdentity            string // where to save the identity made: .pem and .crt are appended; Node only

	NoRateLimit, PublicStable, Discovery bool // Node only

	Bind4, Bind6 string   // addresses to bind; Python only
	Program      string   // another build of dhtnode; Node only
	Args         []string // more arguments; Node only
	Library      []string // more environment, such as LD_LIBRARY_PATH for another build
	Start        Starter
}

func (o Options) start(cmd *exec.Cmd) error {
	cmd.Env = append(os.Environ(), o.Library...)
	if o.Start != nil {
		return o.Start(cmd)
	}
	return cmd.Start()
}
