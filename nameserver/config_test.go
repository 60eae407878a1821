package nameserver

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/jirani/jirani/internal/config"
)

// TestSample loads the sample over nothing and compares with the defaults, and
// holds it to show every key.
func TestSample(t *testing.T) {
	got := Role.Defaults()
	if err := config.Load(&got, config.Source{Path: "nameserver.sample.yaml"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Role.Defaults(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("sample differs from the defaults (-default +sample):\n%s", diff)
	}
	text, err := os.ReadFile("nameserver.sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys(&got) {
		at := any(tree)
		for _, part := range strings.Split(k.Path, ".") {
			m, _ := at.(map[string]any)
			v, ok := m[part]
			if !ok {
				t.Errorf("sample does not show %s", k.Path)
			}
			at = v
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		keys   string
	}{
		{"default", func(*Config) {}, ""},
		{"no listener", func(c *Config) { c.Listen = "" }, "listen"},
		{"bad address", func(c *Config) { c.Listen = "8081" }, "listen"},
		{"public without a mode", func(c *Config) { c.Listen = ":8081" }, "policy.mode"},
		{"public with a mode", func(c *Config) { c.Listen = ":8081"; c.Policy.Mode = "invite" }, ""},
		{"bad mode", func(c *Config) { c.Policy.Mode = "all" }, "policy.mode"},
		{"TLS without a certificate", func(c *Config) { c.TLSListen = "127.0.0.1:8444" }, "tls_listen"},
		{"engine", func(c *Config) { c.Store.Engine = "mysql" }, "store.engine"},
		{"postgres without DSN", func(c *Config) { c.Store.Engine = EnginePostgres }, "store.dsn_file"},
		{"no state", func(c *Config) { c.StateDir = "" }, "state_dir"},
		{"origin", func(c *Config) { c.Ledger.Origin = "two words" }, "ledger.origin"},
		{"visibility", func(c *Config) { c.Ledger.Visibility = "some" }, "ledger.visibility"},
		{"tokens", func(c *Config) { c.Ledger.Visibility = VisibilityToken }, "ledger.tokens_file"},
		{"witness", func(c *Config) { c.Ledger.Witnesses = []WitnessConfig{{"ftp://w", "x"}} }, "ledger.witnesses ledger.witnesses"},
		{"follow", func(c *Config) { c.Follow.URL = "ns.example"; c.Follow.MaxStale = 0 }, "follow.max_stale follow.url follow.vkey"},
		{"limits", func(c *Config) { c.Limits = LimitsConfig{} }, "limits.connections limits.held limits.hold limits.idle limits.read limits.read_header limits.write"},
		{"hold over write", func(c *Config) { c.Limits.Hold = c.Limits.Write }, "limits.hold"},
	}
	for _, tt := range tests {
		c := Default()
		tt.change(&c)
		var keys []string
		if err := c.Validate(); err != nil {
			for _, p := range err.(*config.Problems).All() {
				keys = append(keys, p.Key)
			}
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != tt.keys {
			t.Errorf("%s: problems under %q, want %q", tt.name, got, tt.keys)
		}
	}
}
