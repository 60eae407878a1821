// Package config reads a server's configuration: defaults, then one YAML file, then the environment, then -set flags; later wins.
//
// The file is decoded strictly: a key that the struct does not have is an error with its line. Every key can also be given in the
// environment as PREFIX_KEY, upper case with dots as underscores (NAMESERVER_LIMITS_PER_SOURCE), or as -set limits.per_source=5; both
// take YAML values, so lists are written [a, b].
//
// A configuration is a struct with yaml tags, complete in its defaults. Durations are time.Duration ("30s"), sizes are [Size]
// ("64KiB"), secrets are [SecretFile]; addresses and prefixes are the net/netip types. Its Validate method reports everything wrong at
// once through [Problems].
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds a configuration file; a generous hand-written one is some tens of KiB.
const maxFile = 1 << 20 // bytes

// Validator is implemented by configurations. Validate returns a *Problems, or nil.
type Validator interface {
	Validate() error
}

// Source says where a configuration comes from.
type Source struct {
	Path   string   // YAML file; "" means none
	Prefix string   // of environment variables, without the underscore; "" means the environment is not read
	Env    []string // KEY=value; nil means the process's environment
	Set    []string // key=value, from flags
}

// Load fills dst, a pointer to a struct that holds the defaults, from src and validates it if it is a [Validator]. Problems with keys
// come back as a *[Problems] whose lines point into the file.
func Load(dst any, src Source) error {
	var file *ast.File
	if src.Path != "" {
		content, err := readFile(src.Path)
		if err != nil {
			return err
		}
		if file, err = decode(content, dst); err != nil {
			return err
		}
	}
	var problems Problems
	fields := Keys(dst)
	if src.Prefix != "" {
		applyEnv(fields, src, &problems)
	}
	applySet(fields, src.Set, &problems)
	if problems.Err() == nil {
		if v, ok := dst.(Validator); ok {
			problems.Merge("", v.Validate())
		}
	}
	for i := range problems.list {
		problems.list[i].Line = line(file, problems.list[i].Key)
	}
	return problems.Err()
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("config: %s is larger than %d bytes", path, maxFile)
	}
	return b, nil
}

// decode fills dst strictly and returns the syntax tree for looking up lines. An empty file changes nothing.
func decode(content []byte, dst any) (*ast.File, error) {
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, syntaxProblem(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict())
	if err := dec.Decode(dst); err != nil && !errors.Is(err, io.EOF) {
		if p, ok := valueProblem(file, dst); ok {
			return nil, &Problems{list: []Problem{p}}
		}
		return nil, syntaxProblem(err)
	}
	return file, nil
}

// valueProblem finds the key whose value does not decode. The decoder gives no position for errors of durations and text types.
func valueProblem(file *ast.File, dst any) (Problem, bool) {
	for _, k := range Keys(dst) {
		node := find(file, k.Path)
		if node == nil {
			continue
		}
		scratch := Key{Path: k.Path, field: reflect.New(k.field.Type()).Elem()}
		if err := scratch.decode(node.String()); err != nil {
			return Problem{Key: k.Path, Line: node.GetToken().Position.Line, Text: err.Error()}, true
		}
	}
	return Problem{}, false
}

func find(file *ast.File, key string) ast.Node {
	path, err := yaml.PathString("$." + key)
	if err != nil {
		return nil
	}
	node, err := path.FilterFile(file)
	if err != nil {
		return nil
	}
	return node
}

// syntaxProblem keeps line and message of the decoder's error and drops its multi-line excerpt.
func syntaxProblem(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return fmt.Errorf("config: %w", err)
	}
	p := Problem{Text: syntax.GetMessage()}
	if t := syntax.GetToken(); t != nil {
		p.Line = t.Position.Line
	}
	return &Problems{list: []Problem{p}}
}

// line finds where key stands in the file; for a key that is absent it tries its parents.
func line(file *ast.File, key string) int {
	for file != nil && key != "" {
		if node := find(file, key); node != nil {
			return node.GetToken().Position.Line
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			break
		}
		key = key[:i]
	}
	return 0
}

func applyEnv(fields []Key, src Source, problems *Problems) {
	env := src.Env
	if env == nil {
		env = os.Environ()
	}
	values := make(map[string]string, len(env))
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			values[k] = v
		}
	}
	for _, f := range fields {
		name := EnvName(src.Prefix, f.Path)
		if v, ok := values[name]; ok {
			if err := f.set(v); err != nil {
				problems.Add(f.Path, "%s: %v", name, err)
			}
		}
	}
}

func applySet(fields []Key, set []string, problems *Problems) {
	byPath := make(map[string]Key, len(fields))
	for _, f := range fields {
		byPath[f.Path] = f
	}
	for _, kv := range set {
		key, value, ok := strings.Cut(kv, "=")
		f, known := byPath[key]
		switch {
		case !ok:
			problems.Add("", "-set %s: want key=value", kv)
		case !known:
			problems.Add("", "-set %s: no such key", key)
		default:
			if err := f.set(value); err != nil {
				problems.Add(key, "%v", err)
			}
		}
	}
}

// EnvName returns the environment variable of a key: EnvName("NAMESERVER", "limits.per_source") is NAMESERVER_LIMITS_PER_SOURCE.
func EnvName(prefix, key string) string {
	return prefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// Key is one settable key of a configuration struct.
type Key struct {
	Path  string // dotted path
	field reflect.Value
}

// Keys lists the keys of the struct that dst points to, in the struct's order. Nested structs give dotted paths; inlined ones none.
func Keys(dst any) []Key {
	var out []Key
	walk(reflect.ValueOf(dst).Elem(), "", &out)
	return out
}

func walk(v reflect.Value, prefix string, out *[]Key) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if !sf.IsExported() {
			continue
		}
		name, opts, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
			continue
		case name == "" && strings.Contains(opts, "inline"):
			walk(v.Field(i), prefix, out)
			continue
		case name == "":
			name = strings.ToLower(sf.Name)
		}
		path := join(prefix, name)
		if isSection(sf.Type) {
			walk(v.Field(i), path, out)
			continue
		}
		*out = append(*out, Key{Path: path, field: v.Field(i)})
	}
}

// isSection tells a nested section from a struct that is written as one value, such as netip.Prefix.
func isSection(t reflect.Type) bool {
	text := reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(text)
}

// set decodes a YAML value into the field. Plain strings are taken as they are, so that values such as "1e3" or "[::1]:53" need no
// quotes.
func (k Key) set(value string) error {
	if k.field.Kind() == reflect.String {
		k.field.SetString(value)
		return nil
	}
	return k.decode(value)
}

func (k Key) decode(value string) error {
	fresh := reflect.New(k.field.Type())
	if err := yaml.UnmarshalWithOptions([]byte(value), fresh.Interface(), yaml.Strict()); err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			return errors.New(syntax.GetMessage())
		}
		return err
	}
	k.field.Set(fresh.Elem())
	return nil
}

// Print writes the configuration as YAML in the form a file may have.
func Print(w io.Writer, cfg any) error {
	b, err := yaml.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("config: print: %w", err)
	}
	_, err = w.Write(b)
	return err
}
