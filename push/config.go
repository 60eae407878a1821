package push

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/distributor"
	"github.com/jirani/jirani/push/fake"
)

// Config is the push gateway's configuration file.
type Config struct {
	// Listen is the host:port of the gateway. Default 127.0.0.1:8088. Anything but loopback needs tokens_file or
	// client_ca_file: an open gateway lets strangers ring your users' telephones.
	Listen string `yaml:"listen"`
	// TLS names certificate and key, or the domains to get them for. Default none: plain HTTP.
	TLS certs.Config `yaml:"tls"`
	// ClientCAFile holds PEM certificates of authorities whose client certificates open the gateway. Needs tls.
	ClientCAFile string `yaml:"client_ca_file"`
	// TokensFile lists the bearer tokens that open the gateway, one a line, 16 characters at least; # begins a
	// comment. Read again on SIGHUP.
	TokensFile config.SecretFile `yaml:"tokens_file"`
	// TrustedProxies are reverse proxies whose X-Forwarded-For is believed. Default none.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// Compat is about the gorush dialect.
	Compat CompatConfig `yaml:"compat"`
	// Provider is real, or fake for simulators in this process. Default real.
	Provider string `yaml:"provider"`
	// Fake is how the simulators behave.
	Fake fake.Script `yaml:"fake"`
	// DryRun takes and checks everything and sends nothing. Default false.
	DryRun bool `yaml:"dry_run"`
	// FCM is for Android. Off without service_account_file.
	FCM FCMConfig `yaml:"fcm"`
	// APNs is for iOS. Off without key_file or certificate_file.
	APNs APNsConfig `yaml:"apns"`
	// UnifiedPush is for everything else.
	UnifiedPush UnifiedPushConfig `yaml:"unifiedpush"`
	// Queue bounds and paces what waits.
	Queue QueueConfig `yaml:"queue"`
	// Feedback is about dead tokens.
	Feedback FeedbackConfig `yaml:"feedback"`
	// Distributor is the UnifiedPush server in the box.
	Distributor distributor.Config `yaml:"distributor"`
}

// CompatConfig is about POST /api/push.
type CompatConfig struct {
	Enabled bool           `yaml:"enabled"` // serve the gorush dialect; default true
	Allow   []netip.Prefix `yaml:"allow"`   // addresses that may use it without credentials, which its callers cannot send; default loopback
}

// FCMConfig is Firebase Cloud Messaging.
type FCMConfig struct {
	ServiceAccountFile string `yaml:"service_account_file"` // JSON key file from the Firebase console; whoever has it can push to every installation of the app
	Connections        int    `yaml:"connections"`          // HTTP/2 connections at most, 1–64; Google grants about 100 streams on each; default 16
}

// APNsConfig is Apple's push service.
type APNsConfig struct {
	KeyFile                 string            `yaml:"key_file"`                  // .p8 from the developer account; whoever has it can push to every app of the team
	KeyID                   string            `yaml:"key_id"`                    // ten characters, in the key's file name
	TeamID                  string            `yaml:"team_id"`                   // ten characters, in the membership page
	CertificateFile         string            `yaml:"certificate_file"`          // .p12 instead of the key, for one app
	CertificatePasswordFile config.SecretFile `yaml:"certificate_password_file"` // password of the .p12
	Topic                   string            `yaml:"topic"`                     // bundle id for messages that name none
	Sandbox                 bool              `yaml:"sandbox"`                   // development environment for messages that do not ask for one; default false
	TryOther                bool              `yaml:"try_other"`                 // try a token once in the other environment when it is bad in one; default false
	Connections             int               `yaml:"connections"`               // HTTP/2 connections per environment, 1–16; default 2
	CallGuard               time.Duration     `yaml:"call_guard"`                // how long less urgent messages wait after a more urgent one to the same device, because Apple keeps only the newest for a device that is off; 0–5m; default 20s
}

// UnifiedPushConfig is Web Push.
type UnifiedPushConfig struct {
	Enabled      bool           `yaml:"enabled"`        // default true
	VAPIDKeyFile string         `yaml:"vapid_key_file"` // PEM key, made on the first start; subscriptions may be bound to it, so keep it; default jirani-data/push/vapid.pem
	VAPIDSubject string         `yaml:"vapid_subject"`  // mailto: or https: URL by which push servers reach you; default mailto:push@localhost
	AllowHTTP    bool           `yaml:"allow_http"`     // admit http:// endpoints, for LANs; default false
	AllowPrivate []netip.Prefix `yaml:"allow_private"`  // private networks whose endpoints are admitted; default none: strangers name endpoints, and must not reach your neighbours by them
	Ports        []uint16       `yaml:"ports"`          // admitted ports; default 443
	PerHost      int            `yaml:"per_host"`       // messages at once to one host, 1–1000; default 8
	Timeout      time.Duration  `yaml:"timeout"`        // for connecting and for the answer, each; 1s–30s; default 5s
}

// QueueConfig bounds and paces what waits, per provider.
type QueueConfig struct {
	Messages        int           `yaml:"messages"`          // waiting at most, beyond which the oldest normal ones are shed; default 100000
	Bytes           config.Size   `yaml:"bytes"`             // of their data; default 64MiB
	InFlight        int           `yaml:"in_flight"`         // sent at once, 1–100000; default 1000
	Window          time.Duration `yaml:"window"`            // how long a normal message waits for others to merge with, 0–1m; default 2s
	MaxLife         time.Duration `yaml:"max_life"`          // longest life of a message, 1m–672h; default 24h
	SendTimeout     time.Duration `yaml:"send_timeout"`      // for one attempt, 1s–1m; default 10s
	NormalPerMinute int           `yaml:"normal_per_minute"` // normal messages per token; 0 means no limit; default 30
	NormalBurst     int           `yaml:"normal_burst"`      // default 10
	UrgentPerMinute int           `yaml:"urgent_per_minute"` // high priority messages per token; 0 means no limit; default 120
	UrgentBurst     int           `yaml:"urgent_burst"`      // default 30
	Drain           time.Duration `yaml:"drain"`             // how long to go on sending when told to stop, 0–5m; default 10s
}

// FeedbackConfig is about telling callers which tokens are dead.
type FeedbackConfig struct {
	Keep          int               `yaml:"keep"`           // dead tokens kept for GET /v1/dead-tokens, 1–10000000; default 100000
	WebhookURL    string            `yaml:"webhook_url"`    // https:// or http:// URL to POST them to; default none
	WebhookSecret config.SecretFile `yaml:"webhook_secret"` // file with the secret that signs the webhook, 24 characters at least
}

// Default is the configuration of a trial on this machine: no vendor's credentials, so that only UnifiedPush works.
func Default() Config {
	q := dispatch.DefaultConfig()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	return Config{
		Listen:   "127.0.0.1:8088",
		Compat:   CompatConfig{Enabled: true, Allow: loopback},
		Provider: "real",
		Fake:     fake.Script{Latency: 30 * time.Millisecond},
		FCM:      FCMConfig{Connections: 16},
		APNs:     APNsConfig{Connections: 2, CallGuard: 20 * time.Second},
		UnifiedPush: UnifiedPushConfig{Enabled: true, VAPIDKeyFile: "jirani-data/push/vapid.pem",
			VAPIDSubject: "mailto:push@localhost", Ports: []uint16{443}, PerHost: 8, Timeout: 5 * time.Second},
		Queue: QueueConfig{Messages: q.MaxWaiting, Bytes: config.Size(q.MaxWaitingBytes), InFlight: q.InFlight,
			Window: q.Window, MaxLife: q.MaxLife, SendTimeout: q.SendTimeout, NormalPerMinute: q.Normal.PerMinute,
			NormalBurst: q.Normal.Burst, UrgentPerMinute: q.Urgent.PerMinute, UrgentBurst: q.Urgent.Burst, Drain: q.Drain},
		Feedback:    FeedbackConfig{Keep: 100_000},
		Distributor: distributor.Default(),
	}
}

// dispatch is the queue section in the dispatcher's words.
func (q QueueConfig) dispatch() dispatch.Config {
	c := dispatch.DefaultConfig()
	c.MaxWaiting, c.MaxWaitingBytes, c.InFlight = q.Messages, int64(q.Bytes), q.InFlight
	c.Window, c.MaxLife, c.SendTimeout, c.Drain = q.Window, q.MaxLife, q.SendTimeout, q.Drain
	c.Normal = dispatch.Rate{PerMinute: q.NormalPerMinute, Burst: q.NormalBurst}
	c.Urgent = dispatch.Rate{PerMinute: q.UrgentPerMinute, Burst: q.UrgentBurst}
	return c
}

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	c.validateListen(&p)
	if c.Provider != "real" && c.Provider != "fake" {
		p.Add("provider", "want real or fake")
	}
	if err := c.Fake.Validate(); err != nil {
		p.Add("fake", "%v", err)
	}
	c.validateProviders(&p)
	c.validateQueue(&p)
	c.validateFeedback(&p)
	p.Merge("distributor", c.Distributor.Validate())
	return p.Err()
}

func (c Config) validateListen(p *config.Problems) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		p.Add("listen", "want host:port")
	}
	p.Merge("tls", c.TLS.Validate())
	if c.ClientCAFile != "" && !c.TLS.Enabled() {
		p.Add("client_ca_file", "needs tls")
	}
	a, err := netip.ParseAddr(host)
	loopback := host == "localhost" || (err == nil && a.IsLoopback())
	if !loopback && c.TokensFile == "" && c.ClientCAFile == "" {
		p.Add("tokens_file", "needed, or client_ca_file, to listen beyond loopback")
	}
}

func (c Config) validateProviders(p *config.Problems) {
	a, u := c.APNs, c.UnifiedPush
	between(p, "fcm.connections", c.FCM.Connections, 1, 64)
	if a.KeyFile != "" && a.CertificateFile != "" {
		p.Add("apns.certificate_file", "give this or key_file, not both")
	}
	if a.KeyFile != "" && (a.KeyID == "" || a.TeamID == "") {
		p.Add("apns.key_id", "key_file needs key_id and team_id")
	}
	between(p, "apns.connections", a.Connections, 1, 16)
	between(p, "apns.call_guard", a.CallGuard, 0, 5*time.Minute)
	if !u.Enabled {
		return
	}
	if u.VAPIDKeyFile == "" {
		p.Add("unifiedpush.vapid_key_file", "want a path")
	}
	if !strings.HasPrefix(u.VAPIDSubject, "mailto:") && !strings.HasPrefix(u.VAPIDSubject, "https:") {
		p.Add("unifiedpush.vapid_subject", "want a mailto: or https: URL")
	}
	between(p, "unifiedpush.per_host", u.PerHost, 1, 1000)
	between(p, "unifiedpush.timeout", u.Timeout, time.Second, 30*time.Second)
}

func (c Config) validateQueue(p *config.Problems) {
	q := c.Queue
	between(p, "queue.messages", q.Messages, 1, 10_000_000)
	between(p, "queue.bytes", q.Bytes, 64<<10, 16<<30)
	between(p, "queue.in_flight", q.InFlight, 1, 100_000)
	between(p, "queue.window", q.Window, 0, time.Minute)
	between(p, "queue.max_life", q.MaxLife, time.Minute, 28*24*time.Hour)
	between(p, "queue.send_timeout", q.SendTimeout, time.Second, time.Minute)
	between(p, "queue.normal_per_minute", q.NormalPerMinute, 0, 60_000)
	between(p, "queue.normal_burst", q.NormalBurst, 1, 10_000)
	between(p, "queue.urgent_per_minute", q.UrgentPerMinute, 0, 60_000)
	between(p, "queue.urgent_burst", q.UrgentBurst, 1, 10_000)
	between(p, "queue.drain", q.Drain, 0, 5*time.Minute)
}

func (c Config) validateFeedback(p *config.Problems) {
	f := c.Feedback
	between(p, "feedback.keep", f.Keep, 1, 10_000_000)
	if f.WebhookURL == "" {
		return
	}
	if u, err := url.Parse(f.WebhookURL); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		p.Add("feedback.webhook_url", "want an http or https URL")
	}
	if f.WebhookSecret == "" {
		p.Add("feedback.webhook_secret", "needed with webhook_url")
	}
}

func between[T ~int | ~int64](p *config.Problems, key string, v, low, high T) {
	if v < low || v > high {
		p.Add(key, "want %v to %v", low, high)
	}
}
