// Package unifiedpush sends messages to Web Push resources: the endpoints that UnifiedPush distributors give to
// apps, and those of browsers.
//
// One message is one POST to the endpoint (RFC 8030 §5) with
//
//	TTL               what is left of its life, in seconds
//	Urgency           high or normal
//	Topic             the message's CollapseID, if it has one that fits
//	Authorization     vapid t=<JWT>, k=<public key> (RFC 8292), always
//
// and a body that is the data's JSON, in the clear or, when the subscription has keys, encrypted (RFC 8291,
// Content-Encoding aes128gcm). Keys come in Target.Topic as "p256dh|auth" in base64, url-safe or standard, padded
// or not; a topic without a bar means a plain body (docs/protocols/dhtproxy.md §8.4). Encrypted bodies are padded
// to multiples of 512 bytes, so that their length does not tell a call from a chat.
//
// A VAPID token is signed once per origin and kept for hours (type VAPID); what a message costs is its encryption.
//
// Endpoints come from strangers. Every one is judged by the rules of package safedial before the request and again
// at each dial; answers are read to 4 KiB and redirects are not followed. One exception: an endpoint on this
// process's own distributor is handed over directly.
package unifiedpush

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/safedial"
	"github.com/jirani/jirani/push/provider"
)

const (
	maxBody    = 4096            // RFC 8030 §7.2: what every push server takes
	maxAnswer  = 4 << 10         // bytes read of an answer, so that the connection can serve again
	maxRefused = 10              // 400, 401 or 403 in a row before a token is given up
	maxCounted = 10_000          // tokens whose refusals are counted
	storageGap = 5 * time.Minute // after 507
)

// Publisher takes messages for topics of a distributor in this process.
type Publisher interface {
	// Publish stores body under the endpoint's topic for ttl and hands it to subscribers. encrypted says that it
	// is an aes128gcm body.
	Publish(ctx context.Context, endpoint *url.URL, body []byte, encrypted bool, ttl time.Duration) error
}

// Config describes the sender.
type Config struct {
	Policy  safedial.Policy
	Timeout time.Duration // for dial, TLS and answer each; 0 means 5 s
	PerHost int           // connections to one host and port; 0 means 8
	VAPID   *VAPID
	// Local returns the distributor in this process that serves an endpoint, nil if none does. May be nil.
	Local func(*url.URL) Publisher
	// Transport replaces the one made from Policy. Only for tests and simulators.
	Transport http.RoundTripper
}

// Provider sends to Web Push resources. It is safe for concurrent use.
type Provider struct {
	cfg       Config
	transport http.RoundTripper // not an http.Client, which would follow redirects

	mu      sync.Mutex
	refused map[provider.TokenHash]int // refusals in a row
}

// New starts nothing.
func New(cfg Config) *Provider {
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.PerHost == 0 {
		cfg.PerHost = 8
	}
	p := &Provider{cfg: cfg, transport: cfg.Transport, refused: make(map[provider.TokenHash]int)}
	if p.transport == nil {
		p.transport = cfg.Policy.Transport(cfg.Timeout, cfg.PerHost)
	}
	return p
}

// Close drops idle connections.
func (p *Provider) Close() {
	if t, ok := p.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return "unifiedpush" }

// Host implements provider.Provider. It is "" for an endpoint that the rules refuse.
func (p *Provider) Host(m *provider.Message) string {
	u, _, err := p.endpoint(m)
	if err != nil {
		return ""
	}
	return u.Host
}

// Check reports why an endpoint is refused, for use when it is subscribed.
func (p *Provider) Check(m *provider.Message) error {
	if _, _, err := p.endpoint(m); err != nil {
		return err
	}
	_, err := parseKeys(m.Topic)
	return err
}

// endpoint judges the token as a URL and finds the distributor of our own that it may belong to.
func (p *Provider) endpoint(m *provider.Message) (*url.URL, Publisher, error) {
	if p.cfg.Local != nil && len(m.Token) <= safedial.MaxURL {
		if u, err := url.Parse(string(m.Token)); err == nil {
			if pub := p.cfg.Local(u); pub != nil {
				return u, pub, nil
			}
		}
	}
	u, err := p.cfg.Policy.URL(string(m.Token))
	return u, nil, err
}

// Send implements provider.Provider.
func (p *Provider) Send(ctx context.Context, m *provider.Message) provider.Outcome {
	u, local, err := p.endpoint(m)
	if err != nil {
		return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonForbidden}
	}
	keys, err := parseKeys(m.Topic)
	if err != nil {
		return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonBadToken}
	}
	body, err := makeBody(m.Data, keys)
	if err != nil {
		return provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonTooLarge}
	}
	now := time.Now()
	if local != nil {
		return handOver(ctx, local, u, body, keys != nil, time.Duration(m.TTL(now))*time.Second)
	}
	req, err := p.request(ctx, m, u, body, keys != nil, now)
	if err != nil {
		return failure(ctx, err)
	}
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return failure(ctx, err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // only so that the connection can be used again
	return p.count(m, classify(res.StatusCode, res.Header, time.Now()))
}

// makeBody is what is sent: JSON in the clear, or encrypted if the subscription has keys.
func makeBody(data provider.Data, keys *receiverKeys) ([]byte, error) {
	plain := data.AppendJSON(nil)
	if keys != nil {
		return keys.encrypt(plain)
	}
	if len(plain) > maxBody {
		return nil, errTooLarge
	}
	return plain, nil
}

// handOver gives a message to a distributor in this process, whose errors pass.
func handOver(ctx context.Context, pub Publisher, u *url.URL, body []byte, encrypted bool, ttl time.Duration) provider.Outcome {
	if pub.Publish(ctx, u, body, encrypted, ttl) != nil {
		return provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonStorage, Scope: provider.ScopeToken}
	}
	return provider.Accepted(http.StatusCreated)
}

func (p *Provider) request(ctx context.Context, m *provider.Message, u *url.URL, body []byte, encrypted bool, now time.Time) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(m.Token), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: %w", err)
	}
	auth, err := p.cfg.VAPID.Authorization(u, now)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Content-Type":  {"application/json"},
		"Ttl":           {strconv.FormatInt(m.TTL(now), 10)},
		"Urgency":       {urgency(m)},
		"Authorization": {auth},
	}
	if encrypted {
		req.Header["Content-Type"] = []string{"application/octet-stream"}
		req.Header["Content-Encoding"] = []string{"aes128gcm"}
	}
	if topicPattern.MatchString(m.CollapseID) {
		req.Header["Topic"] = []string{m.CollapseID}
	}
	return req, nil
}

func urgency(m *provider.Message) string {
	if m.Priority.Urgent() {
		return "high"
	}
	return "normal"
}

// topicPattern is RFC 8030 §5.4: at most 32 characters of base64url.
var topicPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// count gives a token up that is refused again and again: its keys or its idea of VAPID are not ours to mend.
func (p *Provider) count(m *provider.Message, out provider.Outcome) provider.Outcome {
	refusal := out.Verdict == provider.DropMessage && (out.Reason == provider.ReasonAuth || out.Reason == provider.ReasonPayload)
	h := m.Token.Hash()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !refusal {
		delete(p.refused, h)
		return out
	}
	if len(p.refused) >= maxCounted {
		clear(p.refused)
	}
	p.refused[h]++
	if p.refused[h] >= maxRefused {
		delete(p.refused, h)
		out.Verdict = provider.DropToken
	}
	return out
}

// classify reads an answer's status (docs/protocols/dhtproxy.md §14.4).
func classify(status int, h http.Header, now time.Time) provider.Outcome {
	out := provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonUnexpected, Status: status,
		After: provider.RetryAfter(h, now)}
	switch {
	case status/100 == 2: // 201 by the standard, 200 by ntfy
		return provider.Accepted(status)
	case status == http.StatusNotFound, status == http.StatusGone:
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonUnregistered
	case status == http.StatusRequestEntityTooLarge:
		out.Reason = provider.ReasonTooLarge
	case status == http.StatusTooManyRequests: // ntfy counts per sender, and often gives no time
		out.Verdict, out.Reason, out.Scope = provider.Retry, provider.ReasonRate, provider.ScopeHost
	case status == http.StatusInsufficientStorage: // ntfy: nobody has subscribed to the topic lately
		out.Verdict, out.Reason, out.Scope = provider.Retry, provider.ReasonStorage, provider.ScopeToken
		out.After = max(out.After, storageGap)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		out.Reason = provider.ReasonAuth
	case status == http.StatusBadRequest:
		out.Reason = provider.ReasonPayload
	case status/100 == 3:
		out.Reason = provider.ReasonRedirect
	case status >= 500:
		out.Verdict, out.Reason = provider.Retry, provider.ReasonServer
	}
	return out
}

// failure is for a request without an answer. An address that the rules refuse is not tried again for this
// message; the next one may find the name pointing elsewhere.
func failure(ctx context.Context, err error) provider.Outcome {
	out := provider.Outcome{Verdict: provider.Retry, Reason: provider.ReasonNetwork}
	switch {
	case errors.Is(err, safedial.ErrRefused):
		out.Verdict, out.Reason = provider.DropMessage, provider.ReasonForbidden
	case ctx.Err() != nil:
		out.Reason = provider.ReasonTimeout
	}
	return out
}
