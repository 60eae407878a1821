//go:build linux

package firstlight

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// notes of all runs of this process: what a run that passes must not keep to itself.
var notes notebook

// notebook is safe for concurrent use.
type notebook struct {
	mu    sync.Mutex
	lines []string
}

// add notes something about a test, in its log too.
func (n *notebook) add(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log("NOTE:", text)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, t.Name()+": "+text)
}

// report appends the notes to the file that JIRANI_NOTES names, since go test shows nothing of a package that passes.
func (n *notebook) report() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	path := os.Getenv("JIRANI_NOTES")
	if path == "" || len(n.lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(n.lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}
