package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type section struct {
	PerSource int            `yaml:"per_source"`
	Window    time.Duration  `yaml:"window"`
	Body      Size           `yaml:"body"`
	Networks  []netip.Prefix `yaml:"networks"`
}

type sample struct {
	Listen string  `yaml:"listen"`
	Limits section `yaml:"limits"`
}

func (s sample) Validate() error {
	var p Problems
	if s.Limits.PerSource < 1 {
		p.Add("limits.per_source", "must be at least 1")
	}
	if s.Listen == "" {
		p.Add("listen", "must not be empty")
	}
	return p.Err()
}

func defaults() sample {
	return sample{Listen: "127.0.0.1:1", Limits: section{PerSource: 10, Window: time.Second, Body: 64 << 10}}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadKeepsDefaultsAndLayers(t *testing.T) {
	path := write(t, "limits:\n  window: 30s\n  body: 2MiB\n  networks: [10.0.0.0/8, fd00::/8]\n")
	got := defaults()
	err := Load(&got, Source{
		Path: path, Prefix: "X", Env: []string{"X_LIMITS_PER_SOURCE=7", "X_LISTEN=[::1]:5"}, Set: []string{"limits.per_source=8"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := sample{Listen: "[::1]:5", Limits: section{
		PerSource: 8, Window: 30 * time.Second, Body: 2 << 20,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}}
	if got.Listen != want.Listen || cmp.Diff(want.Limits, got.Limits, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) != "" {
		t.Errorf("Load = %+v, want %+v", got, want)
	}
}

func TestLoadRefusals(t *testing.T) {
	tests := []struct {
		name, content string
		set           []string
		wantLine      int
		want          string
	}{
		{"unknown key", "listen: a\nlimitz: 3\n", nil, 2, "limitz"},
		{"unknown nested key", "limits:\n  window: 3s\n  per_sauce: 3\n", nil, 3, "per_sauce"},
		{"wrong type", "limits:\n  per_source: many\n", nil, 2, "int"},
		{"bad duration", "limits:\n  window: soon\n", nil, 2, "duration"},
		{"bad size", "limits:\n  body: 3 apples\n", nil, 2, "apples"},
		{"invalid value", "listen: a\nlimits:\n  per_source: 0\n", nil, 3, "limits.per_source: must be at least 1"},
		{"not yaml", "listen: [a\n", nil, 1, ""},
		{"set without value", "", []string{"listen"}, 0, "want key=value"},
		{"set unknown", "", []string{"nope=1"}, 0, "no such key"},
		{"set wrong type", "", []string{"limits.per_source=x"}, 0, "limits.per_source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := defaults()
			err := Load(&c, Source{Path: write(t, tt.content), Set: tt.set})
			problems, ok := errors.AsType[*Problems](err)
			if !ok {
				t.Fatalf("Load error = %v, want *Problems", err)
			}
			p := problems.All()[0]
			if p.Line != tt.wantLine || !strings.Contains(p.String(), tt.want) {
				t.Errorf("problem = line %d %q, want line %d with %q", p.Line, p, tt.wantLine, tt.want)
			}
		})
	}
}

func TestValidateReportsEverything(t *testing.T) {
	c := defaults()
	err := Load(&c, Source{Path: write(t, "listen: ''\nlimits: {per_source: -1}\n")})
	problems, ok := errors.AsType[*Problems](err)
	if !ok || len(problems.All()) != 2 {
		t.Fatalf("Load error = %v, want two problems", err)
	}
}

func TestMissingFile(t *testing.T) {
	c := defaults()
	if err := Load(&c, Source{Path: filepath.Join(t.TempDir(), "none.yaml")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load error = %v, want ErrNotExist", err)
	}
}

func TestPrintLoadsAgain(t *testing.T) {
	var b strings.Builder
	want := defaults()
	if err := Print(&b, want); err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := Load(&got, Source{Path: write(t, b.String())}); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	if got.Listen != want.Listen || got.Limits.Body != want.Limits.Body || got.Limits.Window != want.Limits.Window {
		t.Errorf("printed and loaded = %+v, want %+v", got, want)
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		in   string
		want Size
		out  string
	}{{"0", 0, "0"}, {"512", 512, "512"}, {"64KiB", 64 << 10, "64KiB"}, {"65536", 65536, "64KiB"}, {"3 MB", 3e6, "3000000"}, {"1GiB", 1 << 30, "1GiB"}}
	for _, tt := range tests {
		var s Size
		if err := s.UnmarshalText([]byte(tt.in)); err != nil || s != tt.want || s.String() != tt.out {
			t.Errorf("Size(%q) = %d %q, %v; want %d %q", tt.in, s, s, err, tt.want, tt.out)
		}
	}
	for _, bad := range []string{"", "KiB", "-1", "1.5MiB", "9223372036854775807KiB", "1TiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("Size(%q) = %d, want an error", bad, s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("listen: a\nlimits: {window: 3s, body: 1KiB}\n"))
	f.Add([]byte("&a [*a]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 4096 {
			return
		}
		c := defaults()
		decode(content, &c)
	})
}
