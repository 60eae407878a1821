package nameserver

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/policy"
)

// Config is the name server's configuration file.
type Config struct {
	// Listen is the host:port for plain HTTP. Default 127.0.0.1:8081. Clients
	// of 2023 that look up "name@host" come by plain HTTP to port 80; empty
	// turns it off.
	Listen string `yaml:"listen"`
	// TLSListen is the host:port for HTTPS, usual 0.0.0.0:8444, which clients
	// of 2024 and later assume. Default empty: off. Needs tls.
	TLSListen string `yaml:"tls_listen"`
	// TLS names certificate and key, or the domains to get them for. Clients
	// refuse certificates their system does not trust.
	TLS certs.Config `yaml:"tls"`
	// TrustedProxies are the networks of reverse proxies whose
	// X-Forwarded-For is believed. Default none. A network too many lets
	// clients choose their own address, and so escape the rate limit.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// StateDir keeps the embedded store, the log's key and the last published
	// checkpoint. Default jirani-data/nameserver. Lost without a mirror or a
	// backup, all names are lost.
	StateDir string `yaml:"state_dir"`
	// Store says where the ledger is kept.
	Store StoreConfig `yaml:"store"`
	// Ledger is about the log that others verify.
	Ledger LedgerConfig `yaml:"ledger"`
	// Follow makes this server a mirror of another.
	Follow FollowConfig `yaml:"follow"`
	// Policy is which names may exist and who may register.
	Policy policy.Config `yaml:"policy"`
	// Limits bounds what strangers can make this server spend.
	Limits LimitsConfig `yaml:"limits"`
	// ShutdownTimeout is how long requests under way may take to finish when
	// the server stops. Default 10s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// Engine is a kind of store.
type Engine string

// The engines.
const (
	EngineSQLite   Engine = "sqlite"
	EnginePostgres Engine = "postgres"
)

// StoreConfig says where the ledger is kept.
type StoreConfig struct {
	// Engine is sqlite, one file in state_dir for one process, or postgres, a
	// database that several replicas share. Default sqlite.
	Engine Engine `yaml:"engine"`
	// DSNFile is the file that holds PostgreSQL's connection string. Whoever
	// reads it can serve wrong answers from a changed database; he cannot
	// forge registrations.
	DSNFile config.SecretFile `yaml:"dsn_file"`
}

// Visibility says who may read the whole directory.
type Visibility string

// The visibilities. Checkpoint, keys, rules and the proof of a name that one
// can spell are open in all of them.
const (
	VisibilityPublic    Visibility = "public"    // everybody reads and browses
	VisibilityToken     Visibility = "token"     // who has a token reads and browses
	VisibilityFollowers Visibility = "followers" // who has a token mirrors; nobody browses
)

// LedgerConfig is about the log that others verify.
type LedgerConfig struct {
	// Origin is the log's name, a host name and path without scheme that is
	// nobody else's, such as ns.example.org. It is fixed when the ledger is
	// made. Default localhost/names, good for trials only.
	Origin string `yaml:"origin"`
	// KeyFile holds the key that signs checkpoints. Default empty: log.key in
	// state_dir, made on the first start. Whoever has it can show different
	// people different logs, until they compare; its loss means a new origin.
	// Replicas share it.
	KeyFile config.SecretFile `yaml:"key_file"`
	// Visibility is public, token or followers. Default followers: the whole
	// list of names and accounts is nobody's business but that of mirrors.
	Visibility Visibility `yaml:"visibility"`
	// TokensFile lists the bearer tokens that open the ledger, one a line; #
	// begins a comment. Default none. Read again on SIGHUP.
	TokensFile config.SecretFile `yaml:"tokens_file"`
	// Create makes key and ledger when state_dir has neither. Default false,
	// but a server that listens on loopback only creates them unasked. An
	// operator runs "ledger init" once instead: a server that makes a new, empty ledger because
	// a disk is not mounted tells all clients that their names are gone.
	Create bool `yaml:"create"`
	// Guards are mirrors, as URLs, asked before the first signature after a
	// start whether they saw a longer ledger than the store has; if one did,
	// the server stays read-only. Default none. Without any, only the file
	// published.note in state_dir notices that a backup was put back.
	Guards []string `yaml:"guards"`
	// Witnesses are servers asked to cosign every checkpoint.
	Witnesses []WitnessConfig `yaml:"witnesses"`
	// Witness makes this server cosign other logs.
	Witness WitnessRole `yaml:"witness"`
	// MaxAge is how old the last checkpoint may grow while registrations wait
	// before the server calls itself not ready. Default 10s.
	MaxAge time.Duration `yaml:"max_age"`
	// Cache bounds the memory for entries and hash tiles that were asked for
	// lately, beside the map of all names (190 bytes each). Default 64MiB: the
	// last 12,000 names and the tiles of half a million. What is in it is
	// answered without the store, also while that is down; more makes proofs
	// of a larger ledger as quick (64 MiB a million names).
	Cache config.Size `yaml:"cache"`
}

// WitnessConfig is a witness to ask (C2SP tlog-witness).
type WitnessConfig struct {
	// URL is the witness's submission prefix; /add-checkpoint is appended.
	URL string `yaml:"url"`
	// VKey is the witness's verifier key.
	VKey string `yaml:"vkey"`
}

// WitnessRole makes this server a witness of other logs.
type WitnessRole struct {
	// KeyFile holds the witness key. Default empty: no witness. Whoever has it
	// can vouch for split views in this server's name.
	KeyFile config.SecretFile `yaml:"key_file"`
	// Logs are the verifier keys of the logs to witness; a log's origin is its
	// key's name.
	Logs []string `yaml:"logs"`
}

// FollowConfig makes this server a mirror.
type FollowConfig struct {
	// URL is the base URL of the server to mirror. Default empty: this server
	// is the writer. A mirror refuses to be pointed at another log.
	URL string `yaml:"url"`
	// VKey is the verifier key of its log, from `jirani-nameserver ledger
	// stat` at the writer. A wrong key is refused at the first checkpoint.
	VKey string `yaml:"vkey"`
	// TokenFile holds the bearer token for its ledger. Default none.
	TokenFile config.SecretFile `yaml:"token_file"`
	// Name is what the writer's pages call this mirror, up to 64 bytes of
	// printable ASCII, such as its address. Default empty: not listed there.
	Name string `yaml:"name"`
	// MaxStale is how old the mirrored checkpoint may be for a miss to be
	// answered "not found" rather than "not now". Default 30s. Too long, and
	// a name just registered looks free here.
	MaxStale time.Duration `yaml:"max_stale"`
}

// LimitsConfig bounds what strangers can make this server spend.
type LimitsConfig struct {
	// Connections is how many connections are kept, 16–1000000; beyond it the
	// one that has waited longest for a request is closed. Default 50000,
	// about 1 GiB when all are idle. The process's file limit caps it.
	Connections int `yaml:"connections"`
	// Hold is how long a registration that cannot be decided is held before
	// the client hears "error". Default 20s, at most 50s. Short, and clients
	// meet an error that they can leave only by a restart.
	Hold time.Duration `yaml:"hold"`
	// Held is how many registrations are held at once, 1–1000000. Default
	// 8192; one costs about 20 KiB. Beyond it the client hears "error".
	Held int `yaml:"held"`
	// Verify is how many signatures are checked at the same time. Default 0:
	// one for each core.
	Verify int `yaml:"verify"`
	// ReadHeader is how long a client may take to send a request's header.
	// Default 10s.
	ReadHeader time.Duration `yaml:"read_header"`
	// Read is how long a client may take to send a whole request. Default 20s.
	Read time.Duration `yaml:"read"`
	// Write is how long an answer may take, holding included. Default 1m.
	Write time.Duration `yaml:"write"`
	// Idle is how long a connection may wait for its next request. Default 1m.
	Idle time.Duration `yaml:"idle"`
}

// Default returns the configuration of a trial on this machine.
func Default() Config {
	return Config{
		Listen:          "127.0.0.1:8081",
		StateDir:        filepath.Join("jirani-data", "nameserver"),
		Store:           StoreConfig{Engine: EngineSQLite},
		Ledger:          LedgerConfig{Origin: "localhost/names", Visibility: VisibilityFollowers, MaxAge: 10 * time.Second, Cache: 64 << 20},
		Follow:          FollowConfig{MaxStale: 30 * time.Second},
		Policy:          policy.Default(),
		ShutdownTimeout: 10 * time.Second,
		Limits: LimitsConfig{
			Connections: 50_000, Hold: 20 * time.Second, Held: 8192, ReadHeader: 10 * time.Second,
			Read: 20 * time.Second, Write: time.Minute, Idle: time.Minute,
		},
	}
}

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	c.validateListen(&p)
	c.validateStore(&p)
	c.validateLedger(&p)
	c.effectivePolicy().Check(func(key, format string, args ...any) { p.Add("policy."+key, format, args...) })
	c.Limits.validate(&p)
	if c.ShutdownTimeout <= 0 {
		p.Add("shutdown_timeout", "must be more than 0")
	}
	return p.Err()
}

func (c Config) validateListen(p *config.Problems) {
	if c.Listen == "" && c.TLSListen == "" {
		p.Add("listen", "a server without any listener serves nobody")
	}
	for key, addr := range map[string]string{"listen": c.Listen, "tls_listen": c.TLSListen} {
		if _, _, err := net.SplitHostPort(addr); addr != "" && err != nil {
			p.Add(key, "must be host:port or empty")
		}
	}
	if c.TLSListen != "" && !c.TLS.Enabled() {
		p.Add("tls_listen", "needs a certificate in section tls")
	}
	p.Merge("tls", c.TLS.Validate())
	if c.Policy.Mode == "" && c.Follow.URL == "" && !c.loopbackOnly() {
		p.Add("policy.mode", "say who may register: open, invite, allow-list or closed")
	}
}

func (c Config) validateStore(p *config.Problems) {
	switch c.Store.Engine {
	case EngineSQLite:
	case EnginePostgres:
		if c.Store.DSNFile == "" {
			p.Add("store.dsn_file", "engine postgres needs the file of its connection string")
		}
	default:
		p.Add("store.engine", "%q is none of sqlite, postgres", c.Store.Engine)
	}
	if c.StateDir == "" {
		p.Add("state_dir", "must name a directory that survives restarts")
	}
}

func (c Config) validateLedger(p *config.Problems) {
	if _, err := ledger.GenerateSigningKey(c.Ledger.Origin); err != nil {
		p.Add("ledger.origin", "must be a name without white space or plus signs, such as ns.example.org")
	}
	switch c.Ledger.Visibility {
	case VisibilityPublic, VisibilityFollowers:
	case VisibilityToken:
		if c.Ledger.TokensFile == "" {
			p.Add("ledger.tokens_file", "visibility token needs the file of the tokens")
		}
	default:
		p.Add("ledger.visibility", "%q is none of public, token, followers", c.Ledger.Visibility)
	}
	if c.Ledger.Cache < 1<<20 {
		p.Add("ledger.cache", "must be at least 1MiB")
	}
	if c.Ledger.MaxAge <= 0 {
		p.Add("ledger.max_age", "must be more than 0")
	}
	for _, g := range c.Ledger.Guards {
		checkURL(p, "ledger.guards", g)
	}
	for _, w := range c.Ledger.Witnesses {
		checkURL(p, "ledger.witnesses", w.URL)
		if _, err := ledger.ParseWitness(w.VKey); err != nil {
			p.Add("ledger.witnesses", "%v", err)
		}
	}
	if _, err := ledger.KeyRing(c.Ledger.Witness.Logs...); err != nil {
		p.Add("ledger.witness.logs", "%v", err)
	}
	if c.Follow.URL == "" {
		return
	}
	checkURL(p, "follow.url", c.Follow.URL)
	if _, err := ledger.ParseVerifier(c.Follow.VKey); err != nil {
		p.Add("follow.vkey", "%v", err)
	}
	if len(c.Follow.Name) > maxFollowerName || strings.ContainsFunc(c.Follow.Name, func(r rune) bool { return r < ' ' || r > '~' }) {
		p.Add("follow.name", "must be at most %d characters of printable ASCII", maxFollowerName)
	}
	if c.Follow.MaxStale <= 0 {
		p.Add("follow.max_stale", "must be more than 0")
	}
}

func checkURL(p *config.Problems, key, text string) {
	if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		p.Add(key, "%q is not an http or https URL", text)
	}
}

// maxHold leaves the answer time before the write deadline.
const maxHold = 50 * time.Second

func (l LimitsConfig) validate(p *config.Problems) {
	inRange := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			p.Add("limits."+key, "%d is outside %d–%d", v, lo, hi)
		}
	}
	inRange("connections", l.Connections, 16, 1_000_000)
	inRange("held", l.Held, 1, 1_000_000)
	inRange("verify", l.Verify, 0, 4096)
	if l.Hold < 0 || l.Hold > maxHold || l.Hold >= l.Write {
		p.Add("limits.hold", "%v is outside 0–%v or not below limits.write", l.Hold, maxHold)
	}
	for key, d := range map[string]time.Duration{
		"read_header": l.ReadHeader, "read": l.Read, "write": l.Write, "idle": l.Idle,
	} {
		if d <= 0 {
			p.Add("limits."+key, "must be more than 0")
		}
	}
}

// effectivePolicy fills in the mode that an empty one means.
func (c Config) effectivePolicy() policy.Config {
	pol := c.Policy
	if pol.Mode == "" {
		pol.Mode = policy.ModeClosed
		if c.loopbackOnly() {
			pol.Mode = policy.ModeOpen
		}
	}
	return pol
}

// loopbackOnly reports whether only this machine can reach the listeners.
func (c Config) loopbackOnly() bool {
	for _, addr := range []string{c.Listen, c.TLSListen} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || host == "localhost" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
			return false
		}
	}
	return true
}
