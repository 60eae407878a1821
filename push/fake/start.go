package fake

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/certs"
)

// Config describes the simulators to start.
type Config struct {
	Script
	Limits
	Topics []string                     // bundle ids that APNs accepts; nil means the two of the recorded requests
	Record bool                         // remember what was accepted, for tests
	Life   time.Duration                // of FCM access tokens; 0 means one hour
	Listen func() (net.Listener, error) // nil means loopback TCP
}

// Credentials are what the gateway needs to talk to the simulators.
type Credentials struct {
	ServiceAccount string // path of FCM's JSON key file
	APNsKey        string // path of the .p8 file
	APNsKeyID      string
	APNsTeamID     string
	APNsCert       tls.Certificate `json:"-"` // provider certificate, instead of the key
	FCMURL         string
	APNsURL        string
	WebPushURL     string
	TLS            *tls.Config `json:"-"` // trusts the simulators
	CA             []byte      // their certificate, DER
}

// Trust makes TLS from CA, for credentials that came from another process.
func (c *Credentials) Trust() error {
	leaf, err := x509.ParseCertificate(c.CA)
	if err != nil {
		return fmt.Errorf("fake: %w", err)
	}
	c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.TLS.RootCAs.AddCert(leaf)
	return nil
}

// Network is a set of running simulators.
type Network struct {
	FCM         *FCM
	APNs        *APNs
	WebPush     *WebPush
	Credentials Credentials

	listeners []net.Listener
	origins   []*origin
}

// New makes keys, writes their files to dir, and listens. It starts nothing; Run serves.
func New(cfg Config, dir string) (*Network, error) {
	if err := cfg.Script.Validate(); err != nil {
		return nil, err
	}
	if cfg.Listen == nil {
		cfg.Listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	}
	if cfg.Topics == nil {
		cfg.Topics = []string{"com.savoirfairelinux.ring", "cx.ring.test"}
	}
	if cfg.Life == 0 {
		cfg.Life = time.Hour
	}
	cert, err := certs.SelfSigned(time.Now(), 30*24*time.Hour, "127.0.0.1", "localhost", "fcm.test", "apns.test", "push.test")
	if err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	n := &Network{}
	if err := n.build(cfg, cert, dir); err != nil {
		n.Close()
		return nil, fmt.Errorf("fake: %w", err)
	}
	return n, nil
}

func (n *Network) build(cfg Config, cert tls.Certificate, dir string) error {
	n.Credentials.CA = cert.Certificate[0]
	if err := n.Credentials.Trust(); err != nil {
		return err
	}
	for _, build := range []func(Config, tls.Certificate, string) error{n.buildFCM, n.buildAPNs, n.buildWebPush} {
		if err := build(cfg, cert, dir); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) add(cfg Config, cert tls.Certificate, handle func(*request) response) (*origin, string, error) {
	ln, err := cfg.Listen()
	if err != nil {
		return nil, "", err
	}
	o := newOrigin(cert, cfg.Limits, handle)
	n.listeners, n.origins = append(n.listeners, ln), append(n.origins, o)
	return o, "https://" + ln.Addr().String(), nil
}

// accountKey is made once per process: it takes long, and guards nothing.
var accountKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func (n *Network) buildFCM(cfg Config, cert tls.Certificate, dir string) (err error) {
	key, err := accountKey()
	if err != nil {
		return err
	}
	f := &FCM{record: newRecord(cfg.Record), play: newPlayer(cfg.Script), project: "jirani-fake",
		email: "push@jirani-fake.iam.gserviceaccount.com", key: &key.PublicKey, life: cfg.Life, bearer: make(map[string]time.Time)}
	if f.origin, n.Credentials.FCMURL, err = n.add(cfg, cert, f.handle); err != nil {
		return err
	}
	f.tokenURI = n.Credentials.FCMURL + "/token"
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	account, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": f.project, "private_key_id": "fake", "client_email": f.email,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   f.tokenURI,
	}, "", "  ")
	if err != nil {
		return err
	}
	n.FCM, n.Credentials.ServiceAccount = f, filepath.Join(dir, "fake-service-account.json")
	return os.WriteFile(n.Credentials.ServiceAccount, account, 0o600)
}

func (n *Network) buildAPNs(cfg Config, cert tls.Certificate, dir string) (err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	client, err := certs.SelfSigned(time.Now(), 24*time.Hour, "Apple Push Services: fake")
	if err != nil {
		return err
	}
	a := &APNs{record: newRecord(cfg.Record), play: newPlayer(cfg.Script), keyID: "FAKEKEY123", teamID: "FAKETEAM12",
		key: &key.PublicKey, clientCert: client.Certificate[0], topics: make(map[string]bool)}
	for _, t := range cfg.Topics {
		a.topics[t] = true
	}
	if a.origin, n.Credentials.APNsURL, err = n.add(cfg, cert, a.handle); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	n.APNs, n.Credentials.APNsKey = a, filepath.Join(dir, "fake-AuthKey_FAKEKEY123.p8")
	n.Credentials.APNsKeyID, n.Credentials.APNsTeamID, n.Credentials.APNsCert = a.keyID, a.teamID, client
	return os.WriteFile(n.Credentials.APNsKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func (n *Network) buildWebPush(cfg Config, cert tls.Certificate, _ string) (err error) {
	w := &WebPush{record: newRecord(cfg.Record), play: newPlayer(cfg.Script), subs: make(map[string]*Subscription), vap: make(map[string]error)}
	w.origin, w.base, err = n.add(cfg, cert, w.handle)
	n.WebPush, n.Credentials.WebPushURL = w, w.base
	return err
}

// Run serves until ctx is done and returns when every connection has ended.
func (n *Network) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i, o := range n.origins {
		wg.Go(func() { o.serve(ctx, n.listeners[i]) })
	}
	wg.Wait()
	return nil
}

// Close releases the listeners of a network that will not run.
func (n *Network) Close() {
	for _, ln := range n.listeners {
		ln.Close()
	}
}

// GoAway bids all connections of a simulator farewell; the first keep open streams on each are still answered.
func (o *origin) GoAway(keep int) { o.goAway(keep, `{"reason":"Shutdown"}`) }

// Open is the number of requests that wait for an answer.
func (o *origin) Open() int { return o.open() }

// Connections is how many were ever made, Streams the most that were open at once on one.
func (o *origin) Connections() (made, streams int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made, o.most
}
