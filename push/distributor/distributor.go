// Package distributor is a UnifiedPush server for networks without Google: apps' servers POST to a topic, and the
// distributor app on the phone, such as the ntfy app, receives over one connection for all its topics.
//
// It speaks the part of ntfy's protocol that those two need:
//
//	POST | PUT /<topic>[?up=1]     publish a body of at most 4096 bytes; 200 with the message as JSON
//	GET /<topic>[?up=1]            {"unifiedpush":{"version":1}}
//	GET /<topics>/json|sse|ws      receive; topics separated by commas
//	    ?since=all|none|latest|<id>|<unix time>|<duration>   first what was kept since then
//	    ?poll=1                    only what was kept (since=all unless given), then the end
//	GET /<topic>/auth              {"success":true}: no topic needs a password
//	GET /v1/health                 {"healthy":true}
//
// A stream carries one JSON object per line (json), per event (sse) or per text message (ws):
//
//	{"id":"0xTk3Q9aBc7Z","time":1795244771,"event":"open","topic":"upABCDEFGHIJKL"}
//	{"id":"…","time":…,"expires":…,"event":"message","topic":"…","message":"{\"key\":\"…\"}"}
//	{"id":"…","time":…,"event":"keepalive","topic":"…"}
//
// A body that is not UTF-8, as every encrypted one, is base64 with "encoding":"base64". A keepalive comes every 45
// seconds. Of Web Push (RFC 8030) it honours TTL, with TTL 0 for "now or never", and Topic, by which a message
// replaces an older one that is still kept. Where ntfy cuts a longer body silently, the answer here is 413.
//
// A publish is answered when the message is committed to SQLite; messages that arrive together share a commit. A
// message is kept until its life ends or Config.PerTopic newer ones have come. Receivers that name the last id they
// saw miss nothing in between, across restarts of either side: ids are numbered by the order of commits, and an id
// tells its number, so that it is understood even when its message is long gone.
//
// Whoever knows a topic can read and write it; its twelve random characters are the password, as everywhere in
// UnifiedPush. Bodies are encrypted end to end when the app subscribed with keys. The database file shows topics
// and bodies; losing it loses what was kept and nothing else.
package distributor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
)

// Config is the distributor section of the push gateway's file.
type Config struct {
	Enabled bool   `yaml:"enabled"` // serve UnifiedPush topics; default false
	Listen  string `yaml:"listen"`  // host:port; phones must reach it, usually through a reverse proxy with TLS; default 127.0.0.1:8089
	// URL under which phones and senders reach the listener, without a path; endpoints begin with it. Messages of
	// this gateway for such endpoints are handed over inside the process. Default http://127.0.0.1:8089.
	URL   string `yaml:"url"`
	State string `yaml:"state"` // directory of the message database; default jirani-data/push
	// Prefix that topics must have, so that the server is of no use but for UnifiedPush; "" admits all. Default up.
	Prefix       string         `yaml:"prefix"`
	Keep         time.Duration  `yaml:"keep"`            // longest life of a message, and its life when the sender gives no TTL; 1m–168h; default 12h
	PerTopic     int            `yaml:"per_topic"`       // messages kept per topic, and up to an eighth more; the oldest go; 1–10000; default 100
	MaxMessages  int            `yaml:"max_messages"`    // messages kept in all; beyond it publishing is answered 507; default 1000000
	MaxReceivers int            `yaml:"max_receivers"`   // open streams; beyond it 503; default 50000
	PerAddress   int            `yaml:"per_address"`     // open streams per client address (IPv6: per /64); beyond it 429; default 500
	PublishRate  int            `yaml:"publish_rate"`    // messages per minute and client address, after a burst of as many; beyond it 429; default 3000
	Exempt       []netip.Prefix `yaml:"exempt"`          // client addresses without per-address limits: DHT proxies that push for many; default loopback
	Trusted      []netip.Prefix `yaml:"trusted_proxies"` // reverse proxies whose X-Forwarded-For is believed; default none
}

// Default is a working configuration, turned off.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8089", URL: "http://127.0.0.1:8089", State: "jirani-data/push", Prefix: "up",
		Keep: 12 * time.Hour, PerTopic: 100, MaxMessages: 1_000_000, MaxReceivers: 50_000, PerAddress: 500,
		PublishRate: 3000,
		Exempt:      []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Trusted:     []netip.Prefix{},
	}
}

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	if !c.Enabled {
		return nil
	}
	if u, err := url.Parse(c.URL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		p.Add("url", "want http:// or https:// and a host, without a path")
	}
	if c.Listen == "" {
		p.Add("listen", "want host:port")
	}
	if c.State == "" {
		p.Add("state", "want a directory")
	}
	if c.Prefix != "" && !topicPattern.MatchString(c.Prefix) {
		p.Add("prefix", "want letters, digits, - and _")
	}
	for _, r := range []struct {
		key          string
		v, low, high int64
	}{
		{"keep", int64(c.Keep / time.Minute), 1, 168 * 60},
		{"per_topic", int64(c.PerTopic), 1, 10_000},
		{"max_messages", int64(c.MaxMessages), 1, 100_000_000},
		{"max_receivers", int64(c.MaxReceivers), 1, 10_000_000},
		{"per_address", int64(c.PerAddress), 1, 10_000_000},
		{"publish_rate", int64(c.PublishRate), 1, 10_000_000},
	} {
		if r.v < r.low || r.v > r.high {
			p.Add(r.key, "out of range")
		}
	}
	return p.Err()
}

// Server keeps messages and hands them out. Mount Handler, and Run.
type Server struct {
	cfg   Config
	log   *slog.Logger
	base  *url.URL
	store *store
	hub   *hub
	rates *rates
	wg    sync.WaitGroup // receivers' goroutines
}

// New opens the database. It starts nothing. log may be nil.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = logging.Discard()
	}
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("distributor: url: %w", err)
	}
	s := &Server{cfg: cfg, log: log, base: base, rates: newRates(cfg.PublishRate)}
	s.store, err = openStore(filepath.Join(cfg.State, "unifiedpush.db"), cfg)
	if err != nil {
		return nil, err
	}
	s.hub = newHub(s.store, cfg.MaxReceivers, cfg.PerAddress, &s.wg)
	return s, nil
}

// Run commits messages, sends keepalives and forgets what is over, until ctx is done. Then it ends all streams and
// closes the database.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	storeCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	wg.Go(func() { s.store.run(storeCtx, s.hub.publish, s.log) }) // ends with stop
	s.hub.run(ctx)
	s.hub.close()
	s.wg.Wait()
	stop()
	wg.Wait()
	return s.store.close()
}

// Close releases a server that will not run.
func (s *Server) Close() error { return s.store.close() }

// Serves reports whether an endpoint is a topic of this server.
func (s *Server) Serves(u *url.URL) bool {
	return u.Scheme == s.base.Scheme && strings.EqualFold(u.Host, s.base.Host) && s.topicOK(strings.TrimPrefix(u.Path, "/"))
}

// Publish takes a message for the topic of an endpoint from inside the process, without the limits for strangers.
func (s *Server) Publish(ctx context.Context, endpoint *url.URL, body []byte, encrypted bool, ttl time.Duration) error {
	topic := strings.TrimPrefix(endpoint.Path, "/")
	if !s.Serves(endpoint) || len(body) > maxBody {
		return errors.New("distributor: not a topic of this server, or too large")
	}
	_, err := s.store.add(ctx, &message{topic: topic, body: body, ttl: min(ttl, s.cfg.Keep), binary: encrypted})
	return err
}

// Stats is a snapshot.
type Stats struct {
	Receivers int
	Topics    int // topics somebody receives
	Kept      int // messages
	Published uint64
	Delivered uint64 // messages written to streams
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	out := s.hub.stats()
	out.Kept, out.Published = s.store.counts()
	return out
}
