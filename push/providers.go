package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/h2pool"
	"github.com/jirani/jirani/internal/safedial"
	"github.com/jirani/jirani/push/apns"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/distributor"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/fcm"
	"github.com/jirani/jirani/push/provider"
	"github.com/jirani/jirani/push/unifiedpush"
)

// upDeadFor is how long an endpoint stays dead that answered 404 or 410. It is short: a push server that is being
// moved says so for all its endpoints, and its operator cannot tell us when it is over.
const upDeadFor = time.Hour

// senders are the providers in force with what must be closed and reloaded.
type senders struct {
	lanes  map[provider.Platform]dispatch.Lane
	reload []func() error
	closes []func()
	vapid  *unifiedpush.VAPID // nil when UnifiedPush is off
	sim    *fake.Network      // nil unless provider is fake
	simDir string
}

func (s *senders) close() {
	for _, c := range s.closes {
		c()
	}
	if s.simDir != "" {
		os.RemoveAll(s.simDir)
	}
}

// newSenders reads credentials. It opens no connection. sim are simulators that run elsewhere, nil for none.
func newSenders(cfg Config, dist *distributor.Server, sim *fake.Network) (*senders, error) {
	s := &senders{lanes: make(map[provider.Platform]dispatch.Lane), sim: sim}
	if cfg.Provider == "fake" && sim == nil {
		if err := s.simulate(cfg); err != nil {
			return nil, err
		}
	}
	err := errors.Join(s.addFCM(cfg), s.addAPNs(cfg), s.addUnifiedPush(cfg, dist))
	if err != nil {
		s.close()
		return nil, err
	}
	if cfg.DryRun {
		for p, l := range s.lanes {
			l.Provider = dryRun{l.Provider}
			s.lanes[p] = l
		}
	}
	return s, nil
}

func (s *senders) simulate(cfg Config) (err error) {
	if s.simDir, err = os.MkdirTemp("", "jirani-push-fake-"); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	topics := []string{"com.savoirfairelinux.ring", "cx.ring.test"}
	if cfg.APNs.Topic != "" {
		topics = append(topics, cfg.APNs.Topic)
	}
	s.sim, err = fake.New(fake.Config{Script: cfg.Fake, Topics: topics}, s.simDir)
	return err
}

func (s *senders) addFCM(cfg Config) error {
	c := fcm.Config{ServiceAccountFile: cfg.FCM.ServiceAccountFile, Endpoint: fcm.Endpoint}
	var t *tls.Config
	if s.sim != nil {
		c.ServiceAccountFile, c.Endpoint, t = s.sim.Credentials.ServiceAccount, s.sim.Credentials.FCMURL, s.sim.Credentials.TLS
		c.TokenTransport = &http.Transport{TLSClientConfig: t.Clone(), ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	}
	if c.ServiceAccountFile == "" {
		return nil
	}
	pool := h2pool.New(h2pool.Config{Addr: hostPort(c.Endpoint), TLS: t, MaxConns: cfg.FCM.Connections})
	s.closes = append(s.closes, pool.Close)
	if tr, ok := c.TokenTransport.(*http.Transport); ok {
		s.closes = append(s.closes, tr.CloseIdleConnections)
	}
	c.Transport = pool
	p, err := fcm.New(c)
	if err != nil {
		return err
	}
	s.reload = append(s.reload, p.Reload)
	s.lanes[provider.Android] = dispatch.Lane{Provider: p}
	return nil
}

func hostPort(origin string) string {
	host := strings.TrimPrefix(origin, "https://")
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":443"
	}
	return host
}

func (s *senders) addAPNs(cfg Config) error {
	a := cfg.APNs
	c := apns.Config{KeyFile: a.KeyFile, KeyID: a.KeyID, TeamID: a.TeamID, CertFile: a.CertificateFile, CertPassword: a.CertificatePasswordFile,
		Topic: a.Topic, Sandbox: a.Sandbox, TryOther: a.TryOther, MaxConns: a.Connections}
	if s.sim != nil {
		f := s.sim.Credentials
		c.KeyFile, c.KeyID, c.TeamID, c.CertFile = f.APNsKey, f.APNsKeyID, f.APNsTeamID, ""
		c.Production, c.SandboxURL, c.TLS = f.APNsURL, f.APNsURL, f.TLS
	}
	if c.KeyFile == "" && c.CertFile == "" {
		return nil
	}
	p, err := apns.New(c)
	if err != nil {
		return err
	}
	s.reload, s.closes = append(s.reload, p.Reload), append(s.closes, p.Close)
	s.lanes[provider.IOS] = dispatch.Lane{Provider: p, Guard: a.CallGuard}
	return nil
}

func (s *senders) addUnifiedPush(cfg Config, dist *distributor.Server) error {
	u := cfg.UnifiedPush
	if !u.Enabled {
		return nil
	}
	vapid, err := unifiedpush.LoadVAPID(u.VAPIDKeyFile, u.VAPIDSubject)
	if err != nil {
		return err
	}
	s.vapid = vapid
	c := unifiedpush.Config{VAPID: vapid, PerHost: u.PerHost, Timeout: u.Timeout,
		Policy: safedial.Policy{AllowHTTP: u.AllowHTTP, AllowPrivate: u.AllowPrivate, Ports: u.Ports}}
	if dist != nil {
		c.Local = func(e *url.URL) unifiedpush.Publisher {
			if dist.Serves(e) {
				return dist
			}
			return nil
		}
	}
	if s.sim != nil {
		c.Policy = safedial.Policy{AnyPort: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
		c.Transport = s.simulated(u)
	}
	p := unifiedpush.New(c)
	s.closes = append(s.closes, p.Close)
	s.lanes[provider.UnifiedPush] = dispatch.Lane{Provider: p, PerHost: u.PerHost, DeadFor: upDeadFor}
	return nil
}

// simulated leads every endpoint to the simulator, whatever its host.
func (s *senders) simulated(u UnifiedPushConfig) http.RoundTripper {
	addr := hostPort(s.sim.Credentials.WebPushURL)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: u.Timeout}).DialContext(ctx, network, addr)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the simulator cannot have every endpoint's certificate
		ForceAttemptHTTP2: true, MaxConnsPerHost: u.PerHost, IdleConnTimeout: time.Minute,
	}
}

// dryRun is a provider that sends nothing.
type dryRun struct{ provider.Provider }

// Send implements provider.Provider.
func (dryRun) Send(context.Context, *provider.Message) provider.Outcome { return provider.Accepted(0) }
