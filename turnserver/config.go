package turnserver

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/config"
)

// Config is the file of a TURN server. See turnserver.sample.yaml for every key with its default.
type Config struct {
	Listeners []ListenerConfig `yaml:"listeners"` // where clients come in; default 127.0.0.1:3478, udp and tcp
	TLS       certs.Config     `yaml:"tls"`       // certificate of the tls and dtls listeners
	Workers   int              `yaml:"workers"`   // sockets and loops per udp address, 0–64; 0 = as many as processors
	Relay     RelayConfig      `yaml:"relay"`     // the side that faces peers
	Realms    []RealmConfig    `yaml:"realms"`    // who may relay; the first is the default
	Policy    PolicyConfig     `yaml:"policy"`    // which peers may be reached
	Limits    LimitsConfig     `yaml:"limits"`    // how much anybody may take
	// JamiUser admits the user that Jami's clients carry unless told otherwise (user, password and realm "ring"): "on", "off", or
	// "auto", which is on while every listener is on a loopback address. On a public address "on" makes an open relay.
	JamiUser string `yaml:"jami_user"`
	// ShutdownTimeout is how long a stopping server waits for its allocations to end by themselves. Its addresses are free meanwhile: see
	// docs/design/0006-turn-next-server.md. With 0, or without allocations, it ends at once.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// ListenerConfig is one address for clients.
type ListenerConfig struct {
	// Address is an IP and port. An unspecified IP (0.0.0.0, ::) stands for every address the host has; those that come are served
	// within seconds, those that stay away for a minute are given up with what they relayed.
	Address    netip.AddrPort `yaml:"address"`
	Transports []string       `yaml:"transports"` // some of udp, tcp, tls, dtls; udp and dtls cannot share a port, nor can tcp and tls
	Realm      string         `yaml:"realm"`      // offered to clients that come in here; "" = the first of realms
	// ProxyProtocol is a list of networks whose tcp and tls connections begin with a PROXY protocol header (version 1 or 2) that tells
	// the client's address. Empty means that no header is expected. Whoever can connect from there can claim any address.
	ProxyProtocol []netip.Prefix `yaml:"proxy_protocol"`
}

// RelayConfig describes relayed transport addresses.
type RelayConfig struct {
	// Addresses are the local addresses relayed from, at most one per family is used; empty means the address that the client reached,
	// and for the other family the first listener's of that family.
	Addresses []netip.Addr `yaml:"addresses"`
	// External maps local addresses to those that clients and peers see, for a host behind a one-to-one NAT.
	External map[string]string `yaml:"external"`
	MinPort  uint16            `yaml:"min_port"` // first relay port; both protocols must be reachable from everywhere
	MaxPort  uint16            `yaml:"max_port"` // last relay port
	TCP      bool              `yaml:"tcp"`      // TCP allocations (RFC 6062); Jami needs them
	// TCPConnect lets clients have the server open connections to peers (RFC 6062 Connect). Jami never asks for it.
	TCPConnect bool `yaml:"tcp_connect"`
	// LegacyChannels admits channel numbers 0x5000 to 0x7FFF too, which RFC 5766 allowed and RFC 8656 §12 took back.
	LegacyChannels bool        `yaml:"legacy_channels"`
	Buffer         config.Size `yaml:"buffer"` // kernel buffer of each UDP relay socket and direction; 0 = the system's default
	// KernelPath has channel data of UDP clients over IPv4 relayed by a BPF program in the kernel: "off", "auto", which falls back to user
	// space where that cannot be, or "require", which refuses to start there. What is relayed so does not meet the host's packet filter.
	// See package kernelpath.
	KernelPath string `yaml:"kernel_path"`
}

// RealmConfig is one realm and its users. Sources may be combined.
type RealmConfig struct {
	Name            string              `yaml:"name"`              // 1–762 bytes, as clients see it
	UsersFile       config.SecretFile   `yaml:"users_file"`        // lines name:password or name:0x<key>
	SharedSecrets   []config.SecretFile `yaml:"shared_secrets"`    // for time-limited credentials; several while rotating
	SQLite          string              `yaml:"sqlite"`            // path of a user database; created if missing
	PostgresURLFile config.SecretFile   `yaml:"postgres_url_file"` // holds the URL of a user database
}

// PolicyConfig says which peers may be relayed to. The default is the public Internet without this host.
type PolicyConfig struct {
	LAN bool `yaml:"lan"` // opens private and link-local ranges
	// Loopback opens 127.0.0.0/8 and ::1: "on", "off", or "auto", which is on while every listener is on a loopback address.
	Loopback string         `yaml:"loopback"`
	Allow    []netip.Prefix `yaml:"allow"` // opened whatever else is said, own addresses included
	Deny     []netip.Prefix `yaml:"deny"`  // closed whatever else is said
}

// LimitsConfig bounds what clients take. 0 means no limit unless a range says otherwise.
type LimitsConfig struct {
	Allocations           int           `yaml:"allocations"`             // in all; 0 = as many as ports
	AllocationsPerUser    int           `yaml:"allocations_per_user"`    // meaningless while all share one user
	AllocationsPerAddress int           `yaml:"allocations_per_address"` // per client address (IPv6: per /64)
	DefaultLifetime       time.Duration `yaml:"default_lifetime"`        // of an allocation that asks for none, 1s–1h
	MaxLifetime           time.Duration `yaml:"max_lifetime"`            // the most an allocation may ask for
	NonceLifetime         time.Duration `yaml:"nonce_lifetime"`          // after which a client has to take a new nonce
	// Connections bounds stream and DTLS connections of clients in all; each takes a descriptor.
	Connections int `yaml:"connections"`
	// UnauthenticatedConnections bounds connections of one address that have no allocation yet.
	UnauthenticatedConnections int           `yaml:"unauthenticated_connections"`
	UnauthenticatedTimeout     time.Duration `yaml:"unauthenticated_timeout"` // for a connection to come to an allocation or data
	// UnauthenticatedRate is how many unauthenticated datagrams of one address are answered per second: an address may be forged.
	UnauthenticatedRate int         `yaml:"unauthenticated_rate"`
	PeersPerAllocation  int         `yaml:"peers_per_allocation"` // TCP peer connections at once, 8 at least: Jami's clients use 8
	RatePerAllocation   config.Size `yaml:"rate_per_allocation"`  // bytes per second and direction
	RatePerUser         config.Size `yaml:"rate_per_user"`        // bytes per second and direction, over all their allocations
	RateTotal           config.Size `yaml:"rate_total"`           // bytes per second and direction, over all allocations
}

// Default is the development mode: one user on loopback.
func Default() Config {
	return Config{
		Listeners: []ListenerConfig{{Address: netip.MustParseAddrPort("127.0.0.1:3478"), Transports: []string{"udp", "tcp"}}},
		Relay:     RelayConfig{MinPort: 49152, MaxPort: 65535, TCP: true, KernelPath: "off"},
		Realms:    []RealmConfig{{Name: "ring"}},
		Policy:    PolicyConfig{Loopback: "auto"},
		Limits: LimitsConfig{
			AllocationsPerAddress: 1000, DefaultLifetime: 10 * time.Minute, MaxLifetime: time.Hour, NonceLifetime: time.Hour,
			Connections: 20_000, UnauthenticatedConnections: 128, UnauthenticatedTimeout: 15 * time.Second, UnauthenticatedRate: 100,
			PeersPerAllocation: 64,
		},
		JamiUser:        "auto",
		ShutdownTimeout: 10 * time.Second,
	}
}

var transportNames = []string{"udp", "tcp", "tls", "dtls"}

// Validate reports every problem by key, as a *config.Problems, or nil.
func (c Config) Validate() error {
	var p config.Problems
	c.validateListeners(&p)
	c.validateRelay(&p)
	c.validateRealms(&p)
	c.validateLimits(&p)
	p.Merge("tls", c.TLS.Validate())
	for key, value := range map[string]string{"jami_user": c.JamiUser, "policy.loopback": c.Policy.Loopback} {
		if !slices.Contains([]string{"on", "off", "auto"}, value) {
			p.Add(key, "must be on, off or auto")
		}
	}
	if c.Workers < 0 || c.Workers > 64 {
		p.Add("workers", "must be 0 to 64")
	}
	if c.ShutdownTimeout < 0 {
		p.Add("shutdown_timeout", "must not be negative")
	}
	return p.Err()
}

func (c Config) validateListeners(p *config.Problems) {
	if len(c.Listeners) == 0 {
		p.Add("listeners", "must name at least one address")
	}
	for i, l := range c.Listeners {
		key := fmt.Sprintf("listeners[%d]", i)
		if !l.Address.IsValid() || l.Address.Addr().Is4In6() {
			p.Add(key+".address", "must be an IP address and port, such as 203.0.113.5:3478")
		}
		if len(l.Transports) == 0 {
			p.Add(key+".transports", "must name some of udp, tcp, tls, dtls")
		}
		for _, name := range l.Transports {
			if !slices.Contains(transportNames, name) {
				p.Add(key+".transports", "%q is none of udp, tcp, tls, dtls", name)
			}
			if (name == "tls" || name == "dtls") && !c.TLS.Enabled() {
				p.Add(key+".transports", "%s needs tls.cert_file and tls.key_file, or tls.acme", name)
			}
		}
		for _, pair := range [][2]string{{"udp", "dtls"}, {"tcp", "tls"}} {
			if slices.Contains(l.Transports, pair[0]) && slices.Contains(l.Transports, pair[1]) {
				p.Add(key+".transports", "%s and %s cannot share a port: make another listener", pair[0], pair[1])
			}
		}
		if l.Realm != "" && !slices.ContainsFunc(c.Realms, func(r RealmConfig) bool { return r.Name == l.Realm }) {
			p.Add(key+".realm", "%q is not among realms", l.Realm)
		}
	}
}

func (c Config) validateRelay(p *config.Problems) {
	if c.Relay.MinPort < 1024 || c.Relay.MinPort > c.Relay.MaxPort {
		p.Add("relay.min_port", "must be 1024 to max_port")
	}
	switch {
	case !slices.Contains([]string{"off", "auto", "require"}, c.Relay.KernelPath):
		p.Add("relay.kernel_path", "must be off, auto or require")
	case c.Relay.KernelPath == "require" && c.Limits.shaped():
		p.Add("relay.kernel_path", "require does not go with limits.rate_per_allocation, rate_per_user or rate_total")
	}
	for local, external := range c.Relay.External {
		l, err1 := netip.ParseAddr(local)
		e, err2 := netip.ParseAddr(external)
		if err1 != nil || err2 != nil || l.Is4() != e.Is4() {
			p.Add("relay.external", "%s: %s must be two addresses of one family", local, external)
		}
	}
	for _, a := range c.Relay.Addresses {
		if a.IsUnspecified() || a.Is4In6() {
			p.Add("relay.addresses", "%v is not an address of a host", a)
		}
	}
}

func (c Config) validateRealms(p *config.Problems) {
	if len(c.Realms) == 0 {
		p.Add("realms", "must name at least one realm")
	}
	seen := make(map[string]bool)
	for i, r := range c.Realms {
		key := fmt.Sprintf("realms[%d]", i)
		if r.Name == "" || len(r.Name) > 762 {
			p.Add(key+".name", "must have 1 to 762 bytes")
		}
		if seen[r.Name] {
			p.Add(key+".name", "%q is there twice", r.Name)
		}
		seen[r.Name] = true
		if r.SQLite != "" && r.PostgresURLFile != "" {
			p.Add(key+".sqlite", "either sqlite or postgres_url_file, not both")
		}
	}
}

func (c Config) validateLimits(p *config.Problems) {
	l := c.Limits
	for key, n := range map[string]int{"allocations": l.Allocations, "allocations_per_user": l.AllocationsPerUser,
		"allocations_per_address": l.AllocationsPerAddress, "connections": l.Connections,
		"unauthenticated_connections": l.UnauthenticatedConnections, "unauthenticated_rate": l.UnauthenticatedRate} {
		if n < 0 {
			p.Add("limits."+key, "must not be negative")
		}
	}
	if l.DefaultLifetime < time.Second || l.DefaultLifetime > time.Hour {
		p.Add("limits.default_lifetime", "must be 1s to 1h")
	}
	if l.MaxLifetime < l.DefaultLifetime || l.MaxLifetime > 24*time.Hour {
		p.Add("limits.max_lifetime", "must be default_lifetime to 24h")
	}
	if l.NonceLifetime < time.Minute {
		p.Add("limits.nonce_lifetime", "must be at least 1m")
	}
	if l.UnauthenticatedTimeout < time.Second {
		p.Add("limits.unauthenticated_timeout", "must be at least 1s")
	}
	if l.PeersPerAllocation < 8 {
		p.Add("limits.peers_per_allocation", "must be at least 8")
	}
}

// shaped reports whether any allocation has a bandwidth limit.
func (l LimitsConfig) shaped() bool {
	return l.RatePerAllocation > 0 || l.RatePerUser > 0 || l.RateTotal > 0
}

// local reports whether nobody but this host can reach the server, which is what "auto" means.
func (c Config) local() bool {
	return !slices.ContainsFunc(c.Listeners, func(l ListenerConfig) bool {
		return !l.Address.Addr().IsLoopback() || len(l.ProxyProtocol) > 0
	})
}

func (c Config) auto(setting string) bool { return setting == "on" || setting == "auto" && c.local() }
