package coturnconf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/turnserver"
)

// Names of the files that hold what a configuration may not.
const (
	UsersFile  = "users"
	secretFile = "shared-secret"
)

// Result is a translated configuration.
type Result struct {
	Config turnserver.Config
	Files  map[string]string // secrets by file name, for a directory that only the server may read
	Notes  []string          // what was not taken over, and what is different; in the order of the file
}

// translation is a Result in the making.
type translation struct {
	Result
	realm                    turnserver.RealmConfig
	port, tlsPort            uint16
	listen                   []netip.Addr
	noUDP, noTCP             bool
	noTLS, noDTLS            bool
	authSecret, wantsUsers   bool
	users, secrets           []string
	loneExternal, dirForFile string
}

// Translate turns options into a configuration whose secrets are in files of dir.
func Translate(options []Option, dir string) Result {
	t := &translation{port: 3478, tlsPort: 5349, dirForFile: dir, realm: turnserver.RealmConfig{Name: "ring"}}
	t.Config, t.Files = turnserver.Default(), make(map[string]string)
	t.Config.JamiUser = "off"
	t.Config.Policy.Loopback = "off"
	for _, o := range options {
		if err := t.option(o); err != nil {
			t.note(o, err.Error())
		}
	}
	t.finish()
	return t.Result
}

func (t *translation) note(o Option, text string) {
	t.Notes = append(t.Notes, fmt.Sprintf("line %d: %s: %s", o.Line, o.Name, text))
}

// option takes one option over. An error is a note.
func (t *translation) option(o Option) (err error) {
	c := &t.Config
	on := o.Value == "" || o.Value != "0" && o.Value != "false"
	switch o.Name {
	case "listening-port":
		t.port, err = port(o.Value)
	case "tls-listening-port":
		t.tlsPort, err = port(o.Value)
	case "listening-ip":
		t.listen, err = addAddr(t.listen, o.Value)
	case "relay-ip":
		c.Relay.Addresses, err = addAddr(c.Relay.Addresses, o.Value)
	case "external-ip":
		err = t.external(o.Value)
	case "min-port":
		c.Relay.MinPort, err = port(o.Value)
	case "max-port":
		c.Relay.MaxPort, err = port(o.Value)
	case "realm":
		t.realm.Name = o.Value
	case "user":
		t.users = append(t.users, o.Value)
	case "lt-cred-mech":
		t.wantsUsers = on
	case "use-auth-secret":
		t.authSecret = on
	case "static-auth-secret":
		t.secrets = append(t.secrets, o.Value)
		t.authSecret = true
	case "userdb", "db":
		t.realm.SQLite = o.Value
		return fmt.Errorf("names the same file, but the table is another: add the users with \"jirani-turnserver user add\"")
	case "cert":
		c.TLS.CertFile = o.Value
	case "pkey":
		c.TLS.KeyFile = o.Value
	case "no-udp":
		t.noUDP = on
	case "no-tcp":
		t.noTCP = on
	case "no-tls":
		t.noTLS = on
	case "no-dtls":
		t.noDTLS = on
	case "no-tcp-relay":
		c.Relay.TCP = !on
	default:
		return t.limit(o, on)
	}
	return err
}

// limit takes over the options about limits and policy.
func (t *translation) limit(o Option, on bool) (err error) {
	c := &t.Config
	switch o.Name {
	case "user-quota":
		c.Limits.AllocationsPerUser, err = strconv.Atoi(o.Value)
	case "total-quota":
		c.Limits.Allocations, err = strconv.Atoi(o.Value)
	case "max-bps":
		c.Limits.RatePerAllocation, err = rate(o.Value)
	case "bps-capacity":
		c.Limits.RateTotal, err = rate(o.Value)
	case "stale-nonce":
		c.Limits.NonceLifetime, err = seconds(o.Value, time.Minute)
	case "max-allocate-lifetime":
		c.Limits.MaxLifetime, err = seconds(o.Value, c.Limits.DefaultLifetime)
	case "allow-loopback-peers":
		if on {
			c.Policy.Loopback = "on"
		}
	case "allowed-peer-ip":
		c.Policy.Allow, err = addRange(c.Policy.Allow, o.Value)
	case "denied-peer-ip":
		c.Policy.Deny, err = addRange(c.Policy.Deny, o.Value)
	case "relay-threads":
		c.Workers, err = strconv.Atoi(o.Value)
	default:
		return fmt.Errorf("%s", explain(o.Name))
	}
	return err
}

// explanations say why an option is not taken over.
var explanations = map[string]string{
	"fingerprint":         "not needed: answers have a fingerprint when the request had one",
	"no-multicast-peers":  "not needed: multicast peers are never relayed to",
	"channel-lifetime":    "fixed at RFC 8656's 10 minutes",
	"permission-lifetime": "fixed at RFC 8656's 5 minutes",
	"verbose":             "use log.level: debug", "log-file": "logs go to standard error", "syslog": "logs go to standard error",
	"no-stdout-log": "logs go to standard error", "simple-log": "logs go to standard error", "new-log-timestamp": "logs carry times always",
	"no-cli": "not needed: there is no command line interface; see the operations listener", "cli-ip": "see the operations listener",
	"cli-port": "see the operations listener", "cli-password": "see the operations listener",
	"prometheus": "not needed: metrics are on the operations listener", "pidfile": "not needed: run under a service manager",
	"proc-user": "run under a service manager", "proc-group": "run under a service manager", "daemon": "run under a service manager",
	"psql-userdb":  "no counterpart for coturn's tables: put the URL into a file for postgres_url_file and add the users anew",
	"mysql-userdb": "no counterpart: users are in SQLite or PostgreSQL", "mongo-userdb": "no counterpart: users are in SQLite or PostgreSQL",
	"redis-userdb": "no counterpart: users are in SQLite or PostgreSQL", "redis-statsdb": "no counterpart: see the metrics",
	"mobility": "no counterpart: RFC 8016 is not served", "oauth": "no counterpart: RFC 7635 is not served",
	"no-auth": "no counterpart: there is no anonymous relaying", "alternate-server": "no counterpart: clients are not sent elsewhere",
	"tls-alternate-server": "no counterpart: clients are not sent elsewhere", "no-udp-relay": "no counterpart",
	"no-tlsv1": "not needed: TLS 1.2 is the least", "no-tlsv1_1": "not needed: TLS 1.2 is the least",
	"no-tlsv1_2": "no counterpart: TLS 1.2 is the least", "dh-file": "not needed", "dh2066": "not needed", "cipher-list": "no counterpart",
	"pkey-pwd": "no counterpart: keep the key without a password in a protected file", "server-name": "no counterpart",
	"alt-listening-port": "no counterpart: RFC 5780 is not served", "alt-tls-listening-port": "no counterpart: RFC 5780 is not served",
	"no-rfc5780": "not needed", "no-stun-backward-compatibility": "not needed", "response-origin-only-with-rfc5780": "not needed",
	"secure-stun": "no counterpart: Binding requests are answered without credentials", "no-stun": "no counterpart",
	"check-origin-consistency": "no counterpart", "udp-self-balance": "not needed", "allocation-default-address-family": "no counterpart",
	"listening-device": "no counterpart: name addresses", "relay-device": "no counterpart: name addresses",
}

func explain(name string) string {
	if text, ok := explanations[name]; ok {
		return text
	}
	return "not known"
}

// external takes "public" or "public/local".
func (t *translation) external(value string) error {
	public, local, both := strings.Cut(value, "/")
	if _, err := netip.ParseAddr(public); err != nil {
		return err
	}
	if !both {
		t.loneExternal = public
		return nil
	}
	if _, err := netip.ParseAddr(local); err != nil {
		return err
	}
	if t.Config.Relay.External == nil {
		t.Config.Relay.External = make(map[string]string)
	}
	t.Config.Relay.External[local] = public
	return nil
}

// finish makes listeners and realm of what was gathered.
func (t *translation) finish() {
	c := &t.Config
	if len(t.listen) == 0 {
		t.listen = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	tlsOn := c.TLS.Enabled()
	c.Listeners = nil
	for _, a := range t.listen {
		t.listener(a, t.port, !t.noUDP, "udp", !t.noTCP, "tcp")
		t.listener(a, t.tlsPort, tlsOn && !t.noDTLS, "dtls", tlsOn && !t.noTLS, "tls")
	}
	if t.loneExternal != "" {
		t.external1()
	}
	if len(t.users) > 0 {
		t.Files[UsersFile] = strings.Join(t.users, "\n") + "\n"
		t.realm.UsersFile = config.SecretFile(t.path(UsersFile))
	}
	if t.authSecret {
		t.addSecrets()
	}
	c.Realms = []turnserver.RealmConfig{t.realm}
	if len(c.Policy.Allow) == 0 {
		t.Notes = append(t.Notes, "private, link-local and own addresses are refused as peers here; coturn relays to them: policy.lan opens the first two")
	}
}

func (t *translation) external1() {
	local := t.listen[0]
	if len(t.Config.Relay.Addresses) > 0 {
		local = t.Config.Relay.Addresses[0]
	}
	if local.IsUnspecified() {
		t.Notes = append(t.Notes, "external-ip without a local address: add relay.external with the local address of "+t.loneExternal)
		return
	}
	t.Config.Relay.External = map[string]string{local.String(): t.loneExternal}
}

func (t *translation) addSecrets() {
	for i, secret := range t.secrets {
		name := secretFile
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		t.Files[name] = secret + "\n"
		t.realm.SharedSecrets = append(t.realm.SharedSecrets, config.SecretFile(t.path(name)))
	}
	if len(t.secrets) == 0 {
		t.Notes = append(t.Notes, "use-auth-secret without static-auth-secret: coturn's secrets are in its database; put them into files for shared_secrets")
	}
}

func (t *translation) path(name string) string {
	if t.dirForFile == "" {
		return name
	}
	return t.dirForFile + "/" + name
}

func (t *translation) listener(a netip.Addr, port uint16, first bool, one string, second bool, two string) {
	var transports []string
	if first {
		transports = append(transports, one)
	}
	if second {
		transports = append(transports, two)
	}
	if len(transports) > 0 {
		t.Config.Listeners = append(t.Config.Listeners, turnserver.ListenerConfig{Address: netip.AddrPortFrom(a, port), Transports: transports})
	}
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}

func addAddr(list []netip.Addr, s string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return list, fmt.Errorf("%q is not an IP address", s)
	}
	return append(list, a), nil
}

// rate reads bytes per second.
func rate(s string) (config.Size, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a number of bytes", s)
	}
	return config.Size(n), nil
}

// seconds reads a duration; one below the least becomes it.
func seconds(s string, least time.Duration) (time.Duration, error) {
	if s == "" {
		s = "600"
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return least, fmt.Errorf("%q is not a number of seconds", s)
	}
	return max(time.Duration(n)*time.Second, least), nil
}
