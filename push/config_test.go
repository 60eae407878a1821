package push

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/jirani/jirani/internal/config"
)

// TestSample loads the sample, compares it with the defaults, and holds it to show every key.
func TestSample(t *testing.T) {
	got := Role.Defaults()
	if err := config.Load(&got, config.Source{Path: "push.sample.yaml"}); err != nil {
		t.Fatal(err)
	}
	prefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(Role.Defaults(), got, cmpopts.EquateEmpty(), prefixes); diff != "" {
		t.Errorf("sample differs from the defaults (-default +sample):\n%s", diff)
	}
	text, err := os.ReadFile("push.sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys(&got) {
		at := any(tree)
		for part := range strings.SplitSeq(k.Path, ".") {
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
	for _, tc := range []struct {
		name   string
		change func(*Config)
		keys   string
	}{
		{"default", func(*Config) {}, ""},
		{"open to the world", func(c *Config) { c.Listen = "0.0.0.0:8088" }, "tokens_file"},
		{"guarded", func(c *Config) { c.Listen = "0.0.0.0:8088"; c.TokensFile = "x" }, ""},
		{"no port", func(c *Config) { c.Listen = "localhost" }, "listen tokens_file"},
		{"client CA without TLS", func(c *Config) { c.ClientCAFile = "x" }, "client_ca_file"},
		{"provider", func(c *Config) { c.Provider = "some" }, "provider"},
		{"fake", func(c *Config) { c.Fake.Latency = -1 }, "fake"},
		{"key and certificate", func(c *Config) { c.APNs.KeyFile, c.APNs.CertificateFile = "a", "b" }, "apns.certificate_file apns.key_id"},
		{"subject", func(c *Config) { c.UnifiedPush.VAPIDSubject = "me" }, "unifiedpush.vapid_subject"},
		{"webhook", func(c *Config) { c.Feedback.WebhookURL = "ftp://x" }, "feedback.webhook_secret feedback.webhook_url"},
		{"queue", func(c *Config) { c.Queue = QueueConfig{} }, "queue.bytes queue.in_flight queue.max_life queue.messages queue.normal_burst queue.send_timeout queue.urgent_burst"},
		{"distributor", func(c *Config) { c.Distributor.Enabled = true; c.Distributor.URL = "x" }, "distributor.url"},
	} {
		c := Default()
		tc.change(&c)
		var keys []string
		if err := c.Validate(); err != nil {
			for _, p := range err.(*config.Problems).All() {
				keys = append(keys, p.Key)
			}
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != tc.keys {
			t.Errorf("%s: problems under %q, want %q", tc.name, got, tc.keys)
		}
	}
}
