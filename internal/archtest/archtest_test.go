// Package archtest holds the house rules about who may know whom, as a test that parses the tree itself.
package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/jirani/jirani/"
	root   = "../.."
)

// mayImport lists, for each tree of packages, the trees of this module that its non-test files may import besides their own. The
// longest matching tree decides. "*" is everything. A new top-level directory needs a line here.
var mayImport = map[string][]string{
	"cmd":              {"*"},
	"integration":      {"*"},
	"bench":            {"*"},
	"allinone":         {"bootstrap", "nameserver", "turnserver", "push", "internal"}, // where the roles meet, with cmd
	"allinone/card":    {"internal"},
	"bootstrap":        {"dht", "internal"},
	"dhtproxy":         {"dht", "internal"},
	"nameserver":       {"internal"},
	"turnserver":       {"internal"},
	"push":             {"internal"},
	"peer":             {"dht", "internal/msgpack"},
	"peer/turnclient":  {},
	"peer/doctor":      {"peer"},
	"internal":         {},
	"dht":              {"internal/msgpack"}, // the vocabulary
	"dht/wire":         {"dht", "internal/msgpack"},
	"dht/dhtcrypto":    {"dht", "internal/msgpack"},
	"dht/routing":      {"dht"},
	"dht/storage":      {"dht"},
	"dht/state":        {"dht", "internal/msgpack"},
	"dht/discovery":    {"dht", "internal/msgpack"},
	"dht/pht":          {"dht", "internal/msgpack"},
	"dht/dhtnode":      {"dht/*", "internal/msgpack", "internal/udpio"},
	"dht/dhtcli":       {"dht/*", "internal/udpio"},
	"dht/dhttest":      {"dht/*", "internal/udpio"},
	"deploy":           {},
	"charts":           {},
	"docs":             {},
	"internal/msgpack": {},
}

// onlyIn lists functions and variables of the standard library that belong in one place.
var onlyIn = map[string][]string{
	"os.Exit":              {"cmd", "integration", "bench"},
	"os.Args":              {"cmd", "integration", "bench"},
	"os.Getenv":            {"cmd", "internal/config", "internal/natlab", "internal/pgtest", "integration", "bench"}, // natlab, pgtest: JIRANI_REQUIRE in tests
	"os.LookupEnv":         {"cmd", "internal/config", "integration", "bench"},
	"os.Environ":           {"cmd", "internal/config", "integration", "bench"},
	"signal.Notify":        {"cmd", "internal/service", "integration", "bench"},
	"signal.NotifyContext": {"cmd", "internal/service", "integration", "bench"},
	"log.Printf":           {},
	"log.Fatal":            {},
	"fmt.Println":          {"integration", "bench"},
}

type source struct {
	path string // slash-separated, from the module's root
	dir  string
	file *ast.File
}

// sources parses every Go file that is not a test.
func sources(t *testing.T) []source {
	t.Helper()
	return parsed(t, func(name string) bool { return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") })
}

// parsed parses the files that are wanted.
func parsed(t *testing.T, wanted func(name string) bool) []source {
	t.Helper()
	var out []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !wanted(d.Name()) {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		out = append(out, source{rel, filepath.ToSlash(filepath.Dir(rel)), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// within reports whether dir is tree or below it; "tree/*" means the tree and all below it too.
func within(dir, tree string) bool {
	tree = strings.TrimSuffix(tree, "/*")
	return tree == "*" || dir == tree || strings.HasPrefix(dir, tree+"/")
}

// exactly is within, but the bare name of a tree that has rules for its parts means that one package only.
func exactly(dir, tree string) bool {
	if tree == "dht" {
		return dir == "dht"
	}
	return within(dir, tree)
}

func ruleFor(dir string) (tree string, ok bool) {
	for t := range mayImport {
		if within(dir, t) && len(t) > len(tree) {
			tree, ok = t, true
		}
	}
	return tree, ok
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		tree, ok := ruleFor(s.dir)
		if !ok {
			t.Errorf("%s: no rule for its directory; add one to mayImport", s.path)
			continue
		}
		inDHT := within(s.dir, "dht")
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			dir, ours := strings.CutPrefix(path, module)
			if !ours || within(dir, tree) && (!inDHT || dir == s.dir || tree != "dht") {
				continue
			}
			allowed := slices.ContainsFunc(mayImport[tree], func(a string) bool {
				if inDHT {
					return exactly(dir, a)
				}
				return within(dir, a)
			})
			if !allowed {
				t.Errorf("%s imports %s; %s may import %v", s.path, dir, tree, mayImport[tree])
			}
		}
	}
}

// strangers may not import one another in their tests either: what is tested must not be what tests. Where they meet, integration tests them.
var strangers = []string{"bootstrap", "dhtproxy", "nameserver", "turnserver", "push", "peer"}

func TestStrangers(t *testing.T) {
	for _, s := range parsed(t, func(name string) bool { return strings.HasSuffix(name, ".go") }) {
		home := slices.IndexFunc(strangers, func(tree string) bool { return within(s.dir, tree) })
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			dir, ours := strings.CutPrefix(path, module)
			other := slices.IndexFunc(strangers, func(tree string) bool { return within(dir, tree) })
			if ours && home >= 0 && other >= 0 && home != other {
				t.Errorf("%s imports %s; %s and %s may not know each other", s.path, dir, strangers[home], strangers[other])
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := pkg.Name + "." + sel.Sel.Name
			places, ruled := onlyIn[name]
			if ruled && !slices.ContainsFunc(places, func(p string) bool { return within(s.dir, p) }) {
				t.Errorf("%s uses %s, which belongs in %v", s.path, name, places)
			}
			return true
		})
	}
}

// maxLines is where a file can no longer be held in the head.
const maxLines = 700

func TestFileSizes(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		content, err := os.ReadFile(path)
		if n := bytes.Count(content, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines; split it by idea", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
