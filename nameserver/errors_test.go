package nameserver

import (
	"os"
	"strings"
	"testing"
)

// TestProblemsAreDocumented holds docs/errors.md to the types we send.
func TestProblemsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{outcomeUnavailable.kind, "not_public", "no_route"}
	for _, o := range outcomes {
		kinds = append(kinds, o.kind)
	}
	for _, kind := range kinds {
		heading := strings.TrimPrefix(problemType(kind), "/docs/errors#")
		if !strings.Contains(string(text), "\n## "+heading+"\n") {
			t.Errorf("docs/errors.md has no heading %s", heading)
		}
	}
}
