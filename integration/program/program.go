// Package program builds this repository's programs and runs them as processes, for the suites that watch one from outside.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// builds holds what this test binary needed, each program built once.
var builds struct {
	mu   sync.Mutex
	dir  string
	done map[string]error
}

// Build builds a command of this module, such as "jirani-push", and returns its path. A package that calls it calls [Clean] in its TestMain.
func Build(tb testing.TB, name string) string {
	tb.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.done == nil {
		dir, err := os.MkdirTemp("", "jirani-bin")
		if err != nil {
			tb.Fatal(err)
		}
		builds.dir, builds.done = dir, map[string]error{}
	}
	path := filepath.Join(builds.dir, name)
	err, tried := builds.done[name]
	if !tried {
		out, failed := exec.Command("go", "build", "-o", path, "github.com/jirani/jirani/cmd/"+name).CombinedOutput()
		if failed != nil {
			err = fmt.Errorf("go build %s: %w\n%s", name, failed, out)
		}
		builds.done[name] = err
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Clean removes what Build built.
func Clean() {
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
}

// Require finds a program of somebody else's. Where it is missing the test is skipped, or fails with JIRANI_REQUIRE=1 in the environment.
func Require(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("JIRANI_REQUIRE") == "1":
		tb.Fatalf("missing: program %s", name)
	default:
		tb.Skipf("missing: program %s", name)
	}
	return path
}
