package dht_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/protocols/opendht-conformance.md lists every rule of the specification with where it is kept and which tests would fail. The list
// must not name what is gone, or miss what was added.
func TestConformanceList(t *testing.T) {
	t.Parallel()
	list := readDoc(t, "opendht-conformance.md")
	for _, ref := range regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz|Example)\\w+)`").FindAllStringSubmatch(list, -1) {
		if !testsOf(t, ref[1])[ref[2]] {
			t.Errorf("no test %s in %s", ref[2], ref[1])
		}
	}
	for _, ref := range regexp.MustCompile("`([\\w./]+(?:\\.go|/))`").FindAllStringSubmatch(list, -1) {
		if _, err := os.Stat(ref[1]); err != nil && ref[1] != "dht/" { // paths are below dht
			t.Error(err)
		}
	}
	listed := make(map[string]int)
	for _, row := range regexp.MustCompile(`(?m)^\| ([\d.]+) \((\d+)\) \|`).FindAllStringSubmatch(list, -1) {
		listed[row[1]], _ = strconv.Atoi(row[2])
	}
	for section, lines := range markedLines(readDoc(t, "opendht.md")) {
		if listed[section] != lines {
			t.Errorf("§%s has %d marked lines, the list accounts for %d", section, lines, listed[section])
		}
	}
	for n := 1; n <= 30; n++ {
		if !regexp.MustCompile(`(?m)^\| (?:\d+, )?` + strconv.Itoa(n) + `(?:, \d+)? \|`).MatchString(list) {
			t.Errorf("requirement %d of §19 is not listed", n)
		}
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "protocols", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// markedLines counts the lines with [C…] or MUST of each section before §19.
func markedLines(spec string) map[string]int {
	heading := regexp.MustCompile(`^###? ([\d.]*\d)`)
	marked := regexp.MustCompile(`\[C[\]:\d]|\[C for|MUST`)
	count, section := make(map[string]int), ""
	for line := range strings.Lines(spec) {
		if m := heading.FindStringSubmatch(line); m != nil {
			section = m[1]
		}
		if section == "19" {
			break
		}
		if section != "" && marked.MatchString(line) {
			count[section]++
		}
	}
	return count
}

// testsOf returns the names of the tests of a package.
func testsOf(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	dir, elsewhere := map[string]string{
		"dht": ".", "bootstrap": "../bootstrap", "msgpack": "../internal/msgpack",
		"dhtinterop": "../integration/dhtinterop", "bootstrapfault": "../integration/bootstrapfault",
	}[pkg]
	if !elsewhere {
		dir = pkg
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
	}
	return names
}
