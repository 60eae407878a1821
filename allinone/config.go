package allinone

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jirani/jirani/bootstrap"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/push"
	"github.com/jirani/jirani/turnserver"
)

// RoleName is the name of a server in the configuration.
type RoleName string

// The roles.
const (
	Bootstrap  RoleName = "bootstrap"
	Nameserver RoleName = "nameserver"
	Turnserver RoleName = "turnserver"
	Push       RoleName = "push"
)

var allRoles = []RoleName{Bootstrap, Nameserver, Turnserver, Push}

// Config is the configuration of a whole network. The sections of the roles are the same as in their own files.
type Config struct {
	// StateDir holds everything worth keeping: the name ledger and its key, the DHT node's contacts. Default ./jirani-data. One process
	// at a time may use it. Roles whose own state_dir is relative keep theirs below it.
	StateDir string `yaml:"state_dir"`
	// Host is the address or name that people type into Jami. Default empty: found by itself, and shown anew when it changes.
	Host string `yaml:"host"`
	// Roles are the servers to run: bootstrap, nameserver, turnserver, push. Default all.
	Roles []RoleName `yaml:"roles"`
	// Card is the page that tells people what to type into Jami.
	Card CardConfig `yaml:"card"`

	Bootstrap  bootstrap.Config  `yaml:"bootstrap"`  // the DHT node
	Nameserver nameserver.Config `yaml:"nameserver"` // usernames
	Turnserver turnserver.Config `yaml:"turnserver"` // the relay
	// Push is the push gateway, for this machine only, and the UnifiedPush server that phones listen to. An empty distributor.url means
	// Host with the distributor's port.
	Push push.Config `yaml:"push"`
}

// CardConfig is the network card's section.
type CardConfig struct {
	// Listen is host:port of the page. Default :8000, all addresses. Empty turns it off.
	Listen string `yaml:"listen"`
}

// Default returns the network of a LAN: on all addresses, DHT announced by multicast, names open to everybody, relay between private
// addresses, Jami's own default TURN user.
func Default() Config {
	c := Config{
		StateDir:  "jirani-data",
		Roles:     slices.Clone(allRoles),
		Card:      CardConfig{Listen: ":8000"},
		Bootstrap: bootstrap.Default(), Nameserver: nameserver.Default(), Turnserver: turnserver.Default(),
		Push: push.Default(),
	}
	c.Bootstrap.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:4222"), netip.MustParseAddrPort("[::]:4222")}
	c.Bootstrap.LAN = true
	c.Bootstrap.StateFile = "bootstrap/state.msgpack"
	c.Nameserver.Listen = ":8081"
	c.Nameserver.StateDir = "nameserver"
	c.Nameserver.Policy.Mode = policy.ModeOpen
	c.Nameserver.Ledger.Create = true
	c.Turnserver.Listeners = []turnserver.ListenerConfig{
		{Address: netip.MustParseAddrPort("0.0.0.0:3478"), Transports: []string{"udp", "tcp"}},
		{Address: netip.MustParseAddrPort("[::]:3478"), Transports: []string{"udp", "tcp"}},
	}
	c.Turnserver.Policy.LAN = true
	c.Turnserver.JamiUser = "on"
	c.Push.UnifiedPush.VAPIDKeyFile = "push/vapid.pem"
	c.Push.Distributor.Enabled = true
	c.Push.Distributor.Listen = ":8089"
	c.Push.Distributor.URL = ""
	c.Push.Distributor.State = "push"
	return c
}

// Validate reports every problem by key, those of roles that do not run excepted.
func (c Config) Validate() error {
	var p config.Problems
	if c.StateDir == "" {
		p.Add("state_dir", "must name a directory that survives restarts")
	}
	if strings.ContainsAny(c.Host, "/ ") {
		p.Add("host", "must be an address or a name without port or scheme, or empty")
	}
	if len(c.Roles) == 0 {
		p.Add("roles", "must name at least one of %v", allRoles)
	}
	for _, r := range c.Roles {
		if !slices.Contains(allRoles, r) {
			p.Add("roles", "%q is none of %v", r, allRoles)
		}
	}
	if c.Card.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Card.Listen); err != nil {
			p.Add("card.listen", "must be host:port or empty")
		}
	}
	for _, r := range c.Roles {
		switch r {
		case Bootstrap:
			p.Merge("bootstrap", c.Bootstrap.Validate())
		case Nameserver:
			p.Merge("nameserver", c.Nameserver.Validate())
		case Turnserver:
			p.Merge("turnserver", c.Turnserver.Validate())
		case Push:
			p.Merge("push", c.withPushURL("127.0.0.1").Push.Validate())
		}
	}
	return p.Err()
}

// runs reports whether a role is wanted.
func (c Config) runs(r RoleName) bool { return slices.Contains(c.Roles, r) }

// placed returns the configuration with the roles' relative state directories below the network's.
func (c Config) placed() Config {
	for _, path := range []*string{
		&c.Bootstrap.StateFile, &c.Nameserver.StateDir, &c.Push.UnifiedPush.VAPIDKeyFile, &c.Push.Distributor.State,
	} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(c.StateDir, *path)
		}
	}
	return c
}

// withPushURL fills in the address by which phones reach the UnifiedPush server.
func (c Config) withPushURL(host string) Config {
	if c.Push.Distributor.URL == "" {
		port := fmt.Sprint(portOf(c.Push.Distributor.Listen))
		c.Push.Distributor.URL = "http://" + net.JoinHostPort(host, port)
	}
	return c
}

// portOf returns the port of host:port, or 0.
func portOf(addr string) uint16 {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	var n uint16
	fmt.Sscan(port, &n)
	return n
}
