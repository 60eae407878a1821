// Package vectors reads the recorded bytes of real nodes for tests: the files of dht/testdata/vectors, whose README says how they were made.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// Vector is one line of a file.
type Vector struct {
	Dir   string // "out" was sent to a reference node, "in" by it, "none" is its silence; empty for what is no packet
	Name  string
	Hex   string
	Notes string // decoded, for people
}

// Bytes is what was recorded.
func (v Vector) Bytes(tb testing.TB) []byte {
	tb.Helper()
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		tb.Fatalf("%s: %v", v.Name, err)
	}
	return b
}

// Load reads a file. The path starts at the directory of the package under test.
func Load(tb testing.TB, path string) (all []Vector) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var v Vector
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		all = append(all, v)
	}
	return all
}

// ByName reads a file in which names are unique.
func ByName(tb testing.TB, path string) map[string][]byte {
	tb.Helper()
	m := make(map[string][]byte)
	for _, v := range Load(tb, path) {
		m[v.Name] = v.Bytes(tb)
	}
	return m
}
