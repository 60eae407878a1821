// Package apns sends messages through Apple's push notification service over HTTP/2.
//
// One message is one POST to https://api.push.apple.com/3/device/{token} (api.sandbox.push.apple.com for
// development builds) with these headers:
//
//	authorization    bearer <JWT>, unless the connection has a provider certificate
//	apns-topic       bundle id; with ".voip" appended for VoIP
//	apns-push-type   alert | background | voip
//	apns-priority    10 at once, 5 when convenient; background must be 5
//	apns-expiration  Unix seconds at which Apple gives up
//	apns-collapse-id at most 64 bytes, when the message has one
//
// and a body in which the sender's data stands beside Apple's member:
//
//	{"aps":{"alert":{"title":"hello"},"mutable-content":1},"ids":"10","key":"5cb7…","t":1795242967313,"to":"acct1"}
//	{"aps":{"content-available":1},"ids":"11",…}
//
// (docs/protocols/dhtproxy.md §§8.5, 14.3). The JWT is signed with the team's .p8 key (ES256), renewed every 40
// minutes: Apple refuses it after 60 and complains when it changes within 20. A .p12 certificate serves instead
// for one app. Whoever holds either can push to every installation of the apps it covers.
//
// A token that Apple calls bad in one environment is tried once in the other, if that is configured: builds from
// a developer's machine register with the sandbox.
package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/h2pool"
	"github.com/jirani/jirani/push/provider"
)

// Apple's hosts.
const (
	Production = "https://api.push.apple.com"
	Sandbox    = "https://api.sandbox.push.apple.com"
)

const (
	maxAnswer     = 4 << 10
	maxPayload    = 4096 // bytes; Apple answers 413 beyond
	maxVoIP       = 5120
	maxRemembered = 100_000 // tokens known to belong to the other environment
)

// Config describes the sender. Either the key with both ids, or the certificate, must be given.
type Config struct {
	KeyFile       string            // .p8, PKCS #8 PEM
	KeyID, TeamID string            // ten characters each
	CertFile      string            // .p12 with certificate and key
	CertPassword  config.SecretFile // of the .p12; "" for none
	Topic         string            // bundle id of messages that name none
	Sandbox       bool              // environment of messages that do not ask for one
	TryOther      bool              // try the other environment when a token is bad in one
	MaxConns      int               // connections per environment; 0 means 2

	Production, SandboxURL string      // "" means Apple's
	TLS                    *tls.Config // nil means the system's roots
	// NewTransport makes the connections to an environment; nil means a pool of HTTP/2 connections.
	NewTransport func(origin string, t *tls.Config) Transport
}

// Transport is a pool of connections to one environment.
type Transport interface {
	http.RoundTripper
	Close()
}

// Provider sends for one team or one certificate. It is safe for concurrent use.
type Provider struct {
	cfg Config

	mu    sync.RWMutex
	creds *credentials // replaced by Reload

	otherMu sync.Mutex
	other   map[provider.TokenHash]struct{} // tokens of the environment that is not the configured one
}

// credentials are a key or certificate with the connections that carry it: a certificate belongs to the
// connection, and a connection must not see JWTs of two teams.
type credentials struct {
	jwt        *signer // nil with a certificate
	production Transport
	sandbox    Transport
}

// New reads the key or certificate. It opens no connection.
func New(cfg Config) (*Provider, error) {
	if cfg.Production == "" {
		cfg.Production = Production
	}
	if cfg.SandboxURL == "" {
		cfg.SandboxURL = Sandbox
	}
	if cfg.NewTransport == nil {
		cfg.NewTransport = newPool(cfg.MaxConns)
	}
	p := &Provider{cfg: cfg, other: make(map[provider.TokenHash]struct{})}
	return p, p.Reload()
}

func newPool(conns int) func(string, *tls.Config) Transport {
	return func(origin string, t *tls.Config) Transport {
		u, err := url.Parse(origin)
		if err != nil {
			u = &url.URL{} // a dial to nowhere fails; origins are constants or the operator's
		}
		addr := u.Host
		if u.Port() == "" {
			addr += ":443"
		}
		return h2pool.New(h2pool.Config{Addr: addr, TLS: t, MaxConns: conns})
	}
}

// Reload reads key and certificate again and moves to new connections. On an error the old stay in force.
func (p *Provider) Reload() error {
	c, err := p.load()
	if err != nil {
		return err
	}
	p.mu.Lock()
	old := p.creds
	p.creds = c
	p.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
}

func (p *Provider) load() (*credentials, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.cfg.TLS != nil {
		t = p.cfg.TLS.Clone()
	}
	c := &credentials{}
	if p.cfg.CertFile != "" {
		cert, err := loadP12(p.cfg.CertFile, p.cfg.CertPassword)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{cert}
	} else {
		s, err := newSigner(p.cfg.KeyFile, p.cfg.KeyID, p.cfg.TeamID)
		if err != nil {
			return nil, err
		}
		c.jwt = s
	}
	c.production = p.cfg.NewTransport(p.cfg.Production, t)
	c.sandbox = p.cfg.NewTransport(p.cfg.SandboxURL, t)
	return c, nil
}

// Close ends the connections.
func (p *Provider) Close() {
	p.mu.RLock()
	defer p.mu.RUnlock()
	p.creds.close()
}

func (c *credentials) close() { c.production.Close(); c.sandbox.Close() }

// Name implements provider.Provider.
func (p *Provider) Name() string { return "apns" }

// Host implements provider.Provider: the environments fail apart.
func (p *Provider) Host(m *provider.Message) string {
	if p.isSandbox(m) {
		return "sandbox"
	}
	return "production"
}

func (p *Provider) isSandbox(m *provider.Message) bool {
	sandbox := p.cfg.Sandbox || m.Sandbox
	p.otherMu.Lock()
	_, swapped := p.other[m.Token.Hash()]
	p.otherMu.Unlock()
	return sandbox != swapped
}

// Send implements provider.Provider.
func (p *Provider) Send(ctx context.Context, m *provider.Message) provider.Outcome {
	sandbox := p.isSandbox(m)
	out := p.sendTo(ctx, m, sandbox)
	if out.Reason != provider.ReasonBadToken || !p.cfg.TryOther {
		return out
	}
	again := p.sendTo(ctx, m, !sandbox)
	if again.Verdict == provider.Delivered {
		p.swap(m.Token.Hash())
	}
	return again
}

// swap remembers that a token belongs to the environment that was not tried first. When there are too many such
// memories all are dropped; each costs one refused request to regain.
func (p *Provider) swap(h provider.TokenHash) {
	p.otherMu.Lock()
	defer p.otherMu.Unlock()
	if _, ok := p.other[h]; ok {
		delete(p.other, h)
		return
	}
	if len(p.other) >= maxRemembered {
		clear(p.other)
	}
	p.other[h] = struct{}{}
}

func (p *Provider) sendTo(ctx context.Context, m *provider.Message, sandbox bool) provider.Outcome {
	body := AppendPayload(nil, m)
	if limit := payloadLimit(m.Kind); len(body) > limit {
		return provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonTooLarge}
	}
	p.mu.RLock()
	c := p.creds
	p.mu.RUnlock()
	for attempt := 0; ; attempt++ {
		now := time.Now()
		header := Header(m, p.cfg.Topic)
		var token string
		if c.jwt != nil {
			var err error
			if token, err = c.jwt.token(now); err != nil {
				return provider.Outcome{Verdict: provider.Refused, Reason: provider.ReasonAuth}
			}
			header["Authorization"] = []string{"bearer " + token}
		}
		out, a := p.post(ctx, c, sandbox, m, header, body)
		if a.Reason == "ExpiredProviderToken" && c.jwt != nil && attempt == 0 && c.jwt.renew(token, now) {
			continue
		}
		return out
	}
}

func payloadLimit(k provider.Kind) int {
	if k == provider.VoIP {
		return maxVoIP
	}
	return maxPayload
}

func (p *Provider) post(ctx context.Context, c *credentials, sandbox bool, m *provider.Message, h http.Header, body []byte) (provider.Outcome, answer) {
	origin, tr := p.cfg.Production, c.production
	if sandbox {
		origin, tr = p.cfg.SandboxURL, c.sandbox
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+"/3/device/"+url.PathEscape(string(m.Token)), bytes.NewReader(body))
	if err != nil {
		return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonBadToken}, answer{}
	}
	req.Header = h
	res, err := tr.RoundTrip(req)
	if err != nil {
		return networkOutcome(ctx), answer{}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return networkOutcome(ctx), answer{}
	}
	a := parseAnswer(raw)
	return classify(res.StatusCode, res.Header, a, time.Now()), a
}

// Header is everything but the authorization. topic is the bundle id if the message names none.
func Header(m *provider.Message, topic string) http.Header {
	if m.Topic != "" {
		topic = m.Topic
	}
	if m.Kind == provider.VoIP {
		topic += ".voip"
	}
	prio := "5"
	if m.Priority.Urgent() && m.Kind != provider.Background {
		prio = "10"
	}
	h := http.Header{
		"Apns-Topic":      {topic},
		"Apns-Push-Type":  {m.Kind.String()},
		"Apns-Priority":   {prio},
		"Apns-Expiration": {strconv.FormatInt(m.ExpiresAt.Unix(), 10)},
		"Content-Type":    {"application/json"},
		"User-Agent":      {"jirani-push"},
	}
	if m.CollapseID != "" {
		h["Apns-Collapse-Id"] = []string{m.CollapseID}
	}
	return h
}

// AppendPayload appends the request body for m.
func AppendPayload(dst []byte, m *provider.Message) []byte {
	dst = append(dst, `{"aps":{`...)
	switch m.Kind {
	case provider.Background:
		dst = append(dst, `"content-available":1`...)
	case provider.VoIP:
	default:
		dst = append(dst, `"alert":{"title":`...)
		title := m.Title
		if title == "" && m.Body == "" {
			title = "hello" // an empty alert would not run the app's extension
		}
		dst = provider.AppendString(dst, title)
		if m.Body != "" {
			dst = append(dst, `,"body":`...)
			dst = provider.AppendString(dst, m.Body)
		}
		dst = append(dst, '}')
		if m.Mutable {
			dst = append(dst, `,"mutable-content":1`...)
		}
	}
	dst = append(dst, '}')
	if data := m.Data.Without("aps"); len(data) > 0 {
		dst = append(dst, ',')
		dst = data.AppendMembers(dst)
	}
	return append(dst, '}')
}

// networkOutcome is for a request without an answer.
func networkOutcome(ctx context.Context) provider.Outcome {
	reason := provider.ReasonNetwork
	if ctx.Err() != nil {
		reason = provider.ReasonTimeout
	}
	return provider.Outcome{Verdict: provider.Retry, Reason: reason}
}

// errorf keeps the package's prefix on errors.
func errorf(format string, args ...any) error { return fmt.Errorf("apns: "+format, args...) }
