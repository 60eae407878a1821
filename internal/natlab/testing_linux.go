package natlab

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Require skips the test unless namespaces may be made here and the programs named are installed. With JIRANI_REQUIRE=1
// in the environment it fails instead, so that where everything is meant to be there nothing is left out silently.
func Require(tb testing.TB, programs ...string) {
	tb.Helper()
	var missing []string
	if err := possible(); err != nil {
		missing = append(missing, "what network namespaces need ("+err.Error()+")")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, "program "+p)
		}
	}
	if len(missing) == 0 {
		return
	}
	if os.Getenv("JIRANI_REQUIRE") == "1" {
		tb.Fatalf("missing: %s", strings.Join(missing, ", "))
	}
	tb.Skipf("missing: %s", strings.Join(missing, ", "))
}

// possible tries on a passing thread what every machine of a lab does first: inside a container, the privilege to make
// namespaces may be there, and the root directory or /proc/sys not be what it takes.
var possible = sync.OnceValue(func() error {
	return callOnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		return isolate()
	})
})

// New builds t for a test, captures every host, and closes it at the test's end. See [KeepDir] for what stays.
func New(tb testing.TB, t Topology) *Lab {
	tb.Helper()
	Require(tb)
	lab, err := Build(t, KeepDir(tb))
	if err != nil {
		tb.Fatalf("Build(%s) = %v", t.Name, err)
	}
	tb.Cleanup(func() {
		if err := lab.Close(); err != nil {
			tb.Errorf("Close(%s) = %v", t.Name, err)
		}
	})
	for _, h := range t.Hosts {
		if err := lab.Capture(h.Name); err != nil {
			tb.Fatalf("Capture(%s) = %v", h.Name, err)
		}
	}
	return lab
}

// KeepDir is a directory that stays when the test fails, and whose place is then logged; a test that passes takes it
// away. With go test -artifacts it is the test's artifact directory, which always stays.
func KeepDir(tb testing.TB) string {
	tb.Helper()
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		return tb.ArtifactDir()
	}
	dir, err := os.MkdirTemp("", "jirani-"+strings.ReplaceAll(tb.Name(), string(filepath.Separator), "-")+"-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("logs and captures: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}
