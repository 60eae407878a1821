package turnserver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jirani/jirani/internal/config"
)

func TestSampleIsDefault(t *testing.T) {
	t.Parallel()
	var got Config
	if err := config.Load(&got, config.Source{Path: "turnserver.sample.yaml"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("sample differs from Default (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for key, breakIt := range map[string]func(*Config){
		"listeners:":                      func(c *Config) { c.Listeners = nil },
		"listeners[0].address":            func(c *Config) { c.Listeners[0].Address = netip.AddrPort{} },
		"listeners[0].transports: must":   func(c *Config) { c.Listeners[0].Transports = nil },
		"listeners[0].transports: \"sctp": func(c *Config) { c.Listeners[0].Transports = []string{"sctp"} },
		"listeners[0].transports: tls":    func(c *Config) { c.Listeners[0].Transports = []string{"tls"} },
		"share a port":                    func(c *Config) { c.Listeners[0].Transports = []string{"tls", "tcp"} },
		"listeners[0].realm":              func(c *Config) { c.Listeners[0].Realm = "elsewhere" },
		"relay.min_port":                  func(c *Config) { c.Relay.MinPort = 80 },
		"relay.external":                  func(c *Config) { c.Relay.External = map[string]string{"10.0.0.1": "::1"} },
		"relay.addresses":                 func(c *Config) { c.Relay.Addresses = []netip.Addr{netip.IPv4Unspecified()} },
		"relay.kernel_path: must":         func(c *Config) { c.Relay.KernelPath = "on" },
		"relay.kernel_path: require":      func(c *Config) { c.Relay.KernelPath, c.Limits.RateTotal = "require", 1<<20 },
		"realms:":                         func(c *Config) { c.Realms = nil },
		"realms[0].name":                  func(c *Config) { c.Realms[0].Name = "" },
		"realms[1].name":                  func(c *Config) { c.Realms = append(c.Realms, c.Realms[0]) },
		"realms[0].sqlite":                func(c *Config) { c.Realms[0].SQLite, c.Realms[0].PostgresURLFile = "a", "b" },
		"limits.allocations:":             func(c *Config) { c.Limits.Allocations = -1 },
		"limits.default_lifetime":         func(c *Config) { c.Limits.DefaultLifetime = 0 },
		"limits.max_lifetime":             func(c *Config) { c.Limits.MaxLifetime = 1 },
		"limits.nonce_lifetime":           func(c *Config) { c.Limits.NonceLifetime = 1 },
		"limits.unauthenticated_timeout":  func(c *Config) { c.Limits.UnauthenticatedTimeout = 0 },
		"limits.peers_per_allocation":     func(c *Config) { c.Limits.PeersPerAllocation = 7 },
		"jami_user":                       func(c *Config) { c.JamiUser = "yes" },
		"policy.loopback":                 func(c *Config) { c.Policy.Loopback = "" },
		"workers":                         func(c *Config) { c.Workers = 65 },
		"shutdown_timeout":                func(c *Config) { c.ShutdownTimeout = -1 },
	} {
		c := Default()
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: Validate = %v", key, err)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("Default: %v", err)
	}
}

// What "auto" opens must not be open on an address that others can reach.
func TestAutoIsLocal(t *testing.T) {
	t.Parallel()
	c := Default()
	if !c.auto("auto") {
		t.Error("auto is off on loopback")
	}
	c.Listeners[0].ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if c.auto("auto") {
		t.Error("auto is on behind a proxy")
	}
	c = Default()
	c.Listeners = append(c.Listeners, ListenerConfig{Address: netip.MustParseAddrPort("0.0.0.0:3478")})
	if c.auto("auto") || !c.auto("on") || Default().auto("off") {
		t.Error("auto, on or off is wrong for a public listener")
	}
}
