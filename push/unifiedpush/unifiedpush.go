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
// Encryption and the encrypted messages' VAPID tokens are webpush-go's work. It is given a client that follows no
// redirects (it would carry the VAPID token along), a record size that fits the message (its own choice is 4096
// bytes for everything), and a subject without "mailto:" (it adds one). It signs a token per message; plain bodies,
// for which it has no function, get one that is kept per origin.
//
// Endpoints come from strangers. Every one is judged by the rules of package safedial before the request and again
// at each dial; answers are read to 4 KiB and redirects are not followed. One exception: an endpoint on this
// process's own distributor is handed over directly.
package unifiedpush

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/jirani/jirani/internal/safedial"
	"github.com/jirani/jirani/push/provider"
)

const (
	maxBody    = 4096        // RFC 8030 §7.2: what every push server takes
	maxAnswer  = 4 << 10     // bytes read of an answer, so that the connection can serve again
	bucket     = 512         // encrypted bodies are a multiple of this
	overhead   = 86 + 16 + 1 // RFC 8188 header with the sender's key, tag, delimiter
	maxPlain   = maxBody - overhead
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
	cfg    Config
	client *http.Client

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
	if cfg.Transport == nil {
		cfg.Transport = cfg.Policy.Transport(cfg.Timeout, cfg.PerHost)
	}
	return &Provider{
		cfg:     cfg,
		client:  &http.Client{Transport: cfg.Transport, CheckRedirect: safedial.NoRedirect},
		refused: make(map[provider.TokenHash]int),
	}
}

// Close drops idle connections.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

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
	_, _, err := parseKeys(m.Topic)
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
	keys, encrypted, err := parseKeys(m.Topic)
	if err != nil {
		return provider.Outcome{Verdict: provider.DropToken, Reason: provider.ReasonBadToken}
	}
	body := m.Data.AppendJSON(nil)
	if (encrypted && len(body) > maxPlain) || len(body) > maxBody {
		return provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonTooLarge}
	}
	client := webpush.HTTPClient(p.client)
	if local != nil {
		client = directly{local, u}
	}
	var res *http.Response
	if encrypted {
		res, err = p.sendEncrypted(ctx, client, m, keys, body)
	} else {
		res, err = p.sendPlain(ctx, client, m, u, body)
	}
	if err != nil {
		return failure(ctx, err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // only so that the connection can be used again
	return p.count(m, classify(res.StatusCode, res.Header, time.Now()))
}

func (p *Provider) sendEncrypted(ctx context.Context, c webpush.HTTPClient, m *provider.Message, keys webpush.Keys, body []byte) (*http.Response, error) {
	size := (len(body) + overhead + bucket - 1) / bucket * bucket
	return webpush.SendNotificationWithContext(ctx, body, &webpush.Subscription{Endpoint: string(m.Token), Keys: keys},
		&webpush.Options{
			HTTPClient:      c,
			RecordSize:      uint32(size),
			Subscriber:      p.cfg.VAPID.subscriber(),
			Topic:           topicOf(m),
			TTL:             int(m.TTL(time.Now())),
			Urgency:         webpush.Urgency(urgency(m)),
			VAPIDPublicKey:  p.cfg.VAPID.PublicKey(),
			VAPIDPrivateKey: p.cfg.VAPID.private,
		})
}

func (p *Provider) sendPlain(ctx context.Context, c webpush.HTTPClient, m *provider.Message, u *url.URL, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(m.Token), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	now := time.Now()
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
	if t := topicOf(m); t != "" {
		req.Header["Topic"] = []string{t}
	}
	return c.Do(req)
}

func urgency(m *provider.Message) string {
	if m.Priority.Urgent() {
		return "high"
	}
	return "normal"
}

// topicPattern is RFC 8030 §5.4: at most 32 characters of base64url.
var topicPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func topicOf(m *provider.Message) string {
	if topicPattern.MatchString(m.CollapseID) {
		return m.CollapseID
	}
	return ""
}

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
	case errors.Is(err, errFull):
		out.Reason, out.Scope = provider.ReasonStorage, provider.ScopeToken
	case ctx.Err() != nil:
		out.Reason = provider.ReasonTimeout
	}
	return out
}

// errFull means that our own distributor did not take a message.
var errFull = errors.New("unifiedpush: distributor refused")

// directly is an HTTP client that hands requests to a distributor in this process.
type directly struct {
	pub Publisher
	url *url.URL
}

// Do implements webpush.HTTPClient.
func (d directly) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	ttl, err := strconv.Atoi(req.Header.Get("TTL"))
	if err != nil {
		return nil, err
	}
	encrypted := req.Header.Get("Content-Encoding") == "aes128gcm"
	if err := d.pub.Publish(req.Context(), d.url, body, encrypted, time.Duration(ttl)*time.Second); err != nil {
		return nil, errors.Join(errFull, err)
	}
	return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{}, Body: http.NoBody}, nil
}

// parseKeys reads the subscription's keys from a topic. ok is false for a topic that has none.
func parseKeys(topic string) (keys webpush.Keys, ok bool, err error) {
	p256dh, auth, ok := strings.Cut(topic, "|")
	if !ok {
		return keys, false, nil
	}
	pub, err := decode64(p256dh)
	if err != nil || len(pub) != 65 || pub[0] != 4 {
		return keys, true, errKeys
	}
	secret, err := decode64(auth)
	if err != nil || len(secret) != 16 {
		return keys, true, errKeys
	}
	if !onCurve(pub) {
		return keys, true, errKeys
	}
	return webpush.Keys{P256dh: encode64(pub), Auth: encode64(secret)}, true, nil
}
