// Package fcm sends messages through Firebase Cloud Messaging, HTTP v1 interface.
//
// One message is one POST to https://fcm.googleapis.com/v1/projects/{project}/messages:send with an OAuth 2.0
// access token, and this body:
//
//	{"message":{"token":"…","data":{"key":"39b4…","t":"1795242961302"},"android":{"priority":"high","ttl":"86400s"}}}
//
// It is a data message without a notification: the app wakes and looks for itself. All data values are strings,
// whatever they were in the sender's JSON. priority is "high" or "normal"; ttl is what is left of the message's
// life when its sender gave one (docs/protocols/dhtproxy.md §§8.5, 14.2).
//
// The access token comes from the service account's key file: a JWT signed with RS256, exchanged at the file's
// token_uri, kept until five minutes before it ends, and renewed at once when it is refused. Whoever holds the
// file can push to every installation of the app; losing it costs making a new one in the Firebase console.
package fcm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"github.com/jirani/jirani/push/provider"
)

// Endpoint is Google's.
const Endpoint = "https://fcm.googleapis.com"

const (
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	tokenURI  = "https://oauth2.googleapis.com/token"
	maxAnswer = 16 << 10
	renewal   = 5 * time.Minute
	// Google's documents: wait ten seconds at least before repeating after a server error, a minute after 429.
	serverWait = 10 * time.Second
	quotaWait  = time.Minute
)

// Config describes the sender.
type Config struct {
	ServiceAccountFile string            // JSON key file of the service account
	Endpoint           string            // "" means Google's
	Transport          http.RoundTripper // to Endpoint; should hold HTTP/2 connections to it
	TokenTransport     http.RoundTripper // to the token endpoint; nil means http.DefaultTransport
}

// Provider sends to one Firebase project. It is safe for concurrent use.
type Provider struct {
	cfg Config

	mu      sync.Mutex
	account *account // replaced by Reload
}

// account is a service account with its cached access token.
type account struct {
	url    string
	jwt    *jwt.Config
	client *http.Client

	mu    sync.Mutex
	token *oauth2.Token
}

// New reads the key file.
func New(cfg Config) (*Provider, error) {
	if cfg.Endpoint == "" {
		cfg.Endpoint = Endpoint
	}
	p := &Provider{cfg: cfg}
	return p, p.Reload()
}

// Reload reads the key file again. On an error the one in force stays.
func (p *Provider) Reload() error {
	a, err := p.load()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.account = a
	p.mu.Unlock()
	return nil
}

func (p *Provider) load() (*account, error) {
	raw, err := provider.ReadCredential(p.cfg.ServiceAccountFile)
	if err != nil {
		return nil, fmt.Errorf("fcm: %w", err)
	}
	c, project, err := parseKeyFile(raw)
	if err != nil {
		return nil, fmt.Errorf("fcm: %s: %w", p.cfg.ServiceAccountFile, err)
	}
	a := &account{
		url:    p.cfg.Endpoint + "/v1/projects/" + project + "/messages:send",
		jwt:    c,
		client: &http.Client{Transport: p.cfg.TokenTransport, Timeout: serverWait},
	}
	return a, nil
}

// parseKeyFile reads a service account's key file as the Firebase console gives it.
func parseKeyFile(raw []byte) (*jwt.Config, string, error) {
	var f struct {
		Type         string `json:"type"`
		ProjectID    string `json:"project_id"`
		PrivateKeyID string `json:"private_key_id"`
		PrivateKey   string `json:"private_key"`
		ClientEmail  string `json:"client_email"`
		TokenURI     string `json:"token_uri"`
	}
	switch err := json.Unmarshal(raw, &f); {
	case err != nil:
		return nil, "", errors.New("not a JSON key file")
	case f.Type != "service_account":
		return nil, "", errors.New("not the key of a service account")
	case f.ProjectID == "" || f.PrivateKey == "" || f.ClientEmail == "" || strings.ContainsAny(f.ProjectID, "/?#"):
		return nil, "", errors.New("project_id, private_key or client_email missing")
	}
	if block, _ := pem.Decode([]byte(f.PrivateKey)); block == nil {
		return nil, "", errors.New("private_key is not PEM")
	} else if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		return nil, "", errors.New("private_key is not a PKCS #8 key")
	}
	if f.TokenURI == "" {
		f.TokenURI = tokenURI
	}
	return &jwt.Config{Email: f.ClientEmail, PrivateKey: []byte(f.PrivateKey), PrivateKeyID: f.PrivateKeyID,
		Scopes: []string{scope}, TokenURL: f.TokenURI, Audience: f.TokenURI}, f.ProjectID, nil
}

// access returns a valid access token. Senders that need a new one at the same time wait for one exchange.
func (a *account) access(ctx context.Context) (*oauth2.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != nil && time.Until(a.token.Expiry) > renewal {
		return a.token, nil
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, a.client)
	t, err := a.jwt.TokenSource(ctx).Token()
	if err != nil {
		if a.token.Valid() {
			return a.token, nil // renewing failed, but the old one still holds
		}
		return nil, err
	}
	a.token = t
	return t, nil
}

// refused forgets an access token that Google did not take, unless it has been replaced already.
func (a *account) refused(t *oauth2.Token) {
	a.mu.Lock()
	if a.token == t {
		a.token = nil
	}
	a.mu.Unlock()
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return "fcm" }

// Host implements provider.Provider: all messages share one.
func (p *Provider) Host(*provider.Message) string { return "fcm" }

// Send implements provider.Provider.
func (p *Provider) Send(ctx context.Context, m *provider.Message) provider.Outcome {
	p.mu.Lock()
	a := p.account
	p.mu.Unlock()
	body := AppendMessage(nil, m, time.Now())
	for attempt := 0; ; attempt++ {
		token, err := a.access(ctx)
		if err != nil {
			return tokenOutcome(ctx, err)
		}
		status, h, answer, err := p.post(ctx, a.url, token, body)
		if err != nil {
			return networkOutcome(ctx)
		}
		if status == http.StatusUnauthorized {
			a.refused(token)
			if attempt == 0 {
				continue
			}
		}
		return classify(status, h, answer, time.Now())
	}
}

func (p *Provider) post(ctx context.Context, url string, token *oauth2.Token, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header = http.Header{
		"Authorization": {"Bearer " + token.AccessToken},
		"Content-Type":  {"application/json"},
		"User-Agent":    {"jirani-push"},
	}
	res, err := p.cfg.Transport.RoundTrip(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, res.Header, answer, err
}

// AppendMessage appends the request body for m as of now.
func AppendMessage(dst []byte, m *provider.Message, now time.Time) []byte {
	dst = append(dst, `{"message":{"token":`...)
	dst = provider.AppendString(dst, string(m.Token))
	dst = append(dst, `,"data":{`...)
	n := 0
	for _, d := range m.Data {
		if reserved(d.Name) {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = provider.AppendString(dst, d.Name)
		dst = append(dst, ':')
		dst = provider.AppendString(dst, d.Text())
	}
	dst = append(dst, `},"android":{"priority":"`...)
	if m.Priority.Urgent() {
		dst = append(dst, `high"`...)
	} else {
		dst = append(dst, `normal"`...)
	}
	if m.TTLGiven {
		dst = append(dst, `,"ttl":"`...)
		dst = provider.AppendInt(dst, min(m.TTL(now), maxTTL))
		dst = append(dst, `s"`...)
	}
	if m.CollapseID != "" {
		dst = append(dst, `,"collapse_key":`...)
		dst = provider.AppendString(dst, m.CollapseID)
	}
	return append(dst, `}}}`...)
}

// maxTTL is four weeks, the most FCM takes, in seconds.
const maxTTL = 2_419_200

// reserved reports a data key that FCM refuses a whole message for.
func reserved(name string) bool {
	return name == "from" || name == "gcm" || name == "message_type" || strings.HasPrefix(name, "google")
}
