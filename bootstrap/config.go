package bootstrap

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/jirani/jirani/internal/config"
)

// Config is the role's part of the configuration file.
type Config struct {
	// Listen are the addresses to answer on, each an IP address with a port; 0.0.0.0 and [::] stand for all of the
	// machine. Requests of the node's own leave by the first of each family. Default loopback, port 4222: nobody else
	// reaches it until an address of the machine stands here. IPv6 addresses that the machine does not have are left
	// out with a warning while another address is left.
	Listen []netip.AddrPort `yaml:"listen"`
	// Network is the number of the network, 0–4294967295. Default 0, the public one. Nodes of different numbers never
	// hear each other.
	Network uint32 `yaml:"network"`
	// Bootstrap are nodes to enter the network by: host, host:port, [v6]:port; port 4222 if none. Default none: the node
	// waits for others. A name is looked up anew for each attempt.
	Bootstrap []string `yaml:"bootstrap"`
	// StateFile keeps acquaintances and values over restarts. Its directory is made if need be and locked. Default
	// jirani-data/bootstrap/state.msgpack; "" keeps nothing.
	StateFile string `yaml:"state_file"`
	// StateInterval is how often the state file is written, at least 10s. Default 5m: what a crash loses.
	StateInterval time.Duration `yaml:"state_interval"`
	// Identity gives the node a certificate of its own, which it publishes, and with it an id that stays. Default none, which a
	// bootstrap node does not need: each start has a new id, and clients at once give it again what it lost.
	Identity Identity `yaml:"identity"`
	// PublicStable tells that the node is reachable from everywhere at an address that stays: it renews its listens every
	// 290 s instead of 20 s and does not take a failed search for lost connectivity. Default true. Wrong behind a NAT.
	PublicStable bool `yaml:"public_stable"`
	// Maintain hands stored values to nodes that are closer to them, every ten minutes and, for all of them, before the node ends
	// (for at most 10 s). Default false, as everywhere in OpenDHT: owners care for their values themselves.
	Maintain bool `yaml:"maintain"`
	// Allow are the only networks that are answered, such as 192.0.2.0/24; all other packets are dropped unread. Default
	// empty: everybody. Remember the networks of the nodes under bootstrap.
	Allow []netip.Prefix `yaml:"allow"`
	// LAN announces the node on the local networks by multicast (UDP 8888), and finds others there, so that clients with
	// peer discovery join without configuration. Default false.
	LAN bool `yaml:"lan"`
	// Limits bound what strangers can make the server do.
	Limits Limits `yaml:"limits"`
	// Queues is how many sockets share each address, so that several processors read. 0 means one for every two processors,
	// at most 4. Default 0. More than needed cost processor time for each answer.
	Queues int `yaml:"queues"`
	// ReadBuffer is the kernel's receive buffer per socket. Default 4MiB: a burst of some ten thousand requests. Larger
	// than net.core.rmem_max needs CAP_NET_ADMIN.
	ReadBuffer config.Size `yaml:"read_buffer"`
}

// Identity names the files of a key and its certificate.
type Identity struct {
	Certificate  string            `yaml:"certificate"`   // PEM chain, leaf first; default none
	PrivateKey   config.SecretFile `yaml:"private_key"`   // PEM, PKCS#8; default none
	PasswordFile config.SecretFile `yaml:"password_file"` // holds the password of private_key; default none
}

// Limits bound requests, storage and listens. A wrong value here lets strangers fill memory, or turns clients away.
type Limits struct {
	Requests          int         `yaml:"requests"`            // per second answered in all; -1 = no limit; default 8192
	RequestsPerSource int         `yaml:"requests_per_source"` // from one IPv4 address or IPv6 /64; -1 = no limit; default 1024; many clients behind one NAT count as one
	Storage           config.Size `yaml:"storage"`             // values of others in all, overhead included; default 64MiB
	StoragePerSource  config.Size `yaml:"storage_per_source"`  // values put from one source; default 16MiB
	Keys              int         `yaml:"keys"`                // places with a value or a listen; default 1048576
	ValuesPerKey      int         `yaml:"values_per_key"`      // default 65536, upstream's
	Listens           int         `yaml:"listens"`             // listens of others in all; default 131072
	ListensPerSource  int         `yaml:"listens_per_source"`  // default 32768
	ListensPerKey     int         `yaml:"listens_per_key"`     // default 4096
}

// minStateInterval keeps a slip of the pen from writing the disk all the time.
const minStateInterval = 10 * time.Second

// Default is the development mode: loopback, state below the working directory.
func Default() Config {
	return Config{
		Listen:        []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4222"), netip.MustParseAddrPort("[::1]:4222")},
		StateFile:     "jirani-data/bootstrap/state.msgpack",
		StateInterval: 5 * time.Minute,
		PublicStable:  true,
		ReadBuffer:    4 << 20,
		Limits: Limits{
			Requests: 8192, RequestsPerSource: 1024,
			Storage: 64 << 20, StoragePerSource: 16 << 20, Keys: 1 << 20, ValuesPerKey: 1 << 16,
			Listens: 1 << 17, ListensPerSource: 1 << 15, ListensPerKey: 1 << 12,
		},
	}
}

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	c.validateListen(&p)
	for i, host := range c.Bootstrap {
		if err := checkHost(host); err != "" {
			p.Add(at("bootstrap", i), "%s", err)
		}
	}
	if c.StateInterval < minStateInterval {
		p.Add("state_interval", "must be at least %v", minStateInterval)
	}
	if (c.Identity.Certificate == "") != (c.Identity.PrivateKey == "") {
		p.Add("identity", "certificate and private_key go together")
	}
	for i, net := range c.Allow {
		if !net.IsValid() || net != net.Masked() {
			p.Add(at("allow", i), "must be a network without host bits, such as 192.0.2.0/24")
		}
	}
	if c.Queues < 0 || c.Queues > 64 {
		p.Add("queues", "must be 0–64")
	}
	if c.ReadBuffer < 0 || c.ReadBuffer > 1<<30 {
		p.Add("read_buffer", "must be at most 1GiB")
	}
	p.Merge("limits", c.Limits.Validate())
	return p.Err()
}

func (c Config) validateListen(p *config.Problems) {
	if len(c.Listen) == 0 {
		p.Add("listen", "must name at least one address")
	}
	seen := make(map[netip.AddrPort]bool)
	for i, a := range c.Listen {
		if !a.IsValid() {
			p.Add(at("listen", i), "must be an IP address with a port, such as 0.0.0.0:4222")
		} else if seen[a] && a.Port() != 0 {
			p.Add(at("listen", i), "%v stands here twice", a)
		}
		seen[a] = true
	}
}

// Validate reports every problem by key.
func (l Limits) Validate() error {
	var p config.Problems
	for key, n := range map[string]int{"requests": l.Requests, "requests_per_source": l.RequestsPerSource} {
		if n == 0 || n < -1 {
			p.Add(key, "must be positive, or -1 for no limit")
		}
	}
	for key, n := range map[string]int64{"storage": int64(l.Storage), "storage_per_source": int64(l.StoragePerSource),
		"keys": int64(l.Keys), "values_per_key": int64(l.ValuesPerKey), "listens": int64(l.Listens),
		"listens_per_source": int64(l.ListensPerSource), "listens_per_key": int64(l.ListensPerKey)} {
		if n <= 0 {
			p.Add(key, "must be positive")
		}
	}
	return p.Err()
}

func at(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// checkHost says what is wrong with an entry point.
func checkHost(s string) string {
	const want = "must be host, host:port or [v6]:port"
	if s == "" {
		return want
	}
	if a, err := netip.ParseAddr(s); err == nil && a.IsValid() {
		return ""
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if host, port, err = net.SplitHostPort(s + ":4222"); err != nil {
			return want
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return want
	}
	return ""
}
