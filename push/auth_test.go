package push

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/config"
)

// clientCert is a certificate for a caller, signed by its own key.
func clientCert(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAuthorization(t *testing.T) {
	dir := t.TempDir()
	server, err := certs.SelfSigned(time.Now(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client := clientCert(t)
	cfg := testConfig(t)
	if cfg.TLS.CertFile, cfg.TLS.KeyFile, err = certs.WriteFiles(dir, server); err != nil {
		t.Fatal(err)
	}
	cfg.ClientCAFile = filepath.Join(dir, "clients.pem")
	tokens := filepath.Join(dir, "tokens")
	err = errors.Join(
		os.WriteFile(cfg.ClientCAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]}), 0o600),
		os.WriteFile(tokens, []byte("# proxies\nfirst-token-of-many # the first\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	cfg.TokensFile = config.SecretFile(tokens)
	cfg.Compat.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	g := start(t, cfg)
	roots := x509.NewCertPool()
	leaf, _ := x509.ParseCertificate(server.Certificate[0])
	roots.AddCert(leaf)
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	mutual := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}}}
	defer plain.CloseIdleConnections()
	defer mutual.CloseIdleConnections()
	request := func(c *http.Client, path, token string) int { // 0 when the handshake fails
		req, _ := http.NewRequest(http.MethodPost, g.url+path, bytes.NewReader([]byte(`{"notifications":[{"platform":2,"tokens":["t"]}],"pushes":[{}]}`)))
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := c.Do(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, path := range []string{"/api/push", "/v1/pushes"} {
		for _, tc := range []struct {
			name   string
			client *http.Client
			token  string
			want   int
		}{
			{"nothing", plain, "", 401},
			{"wrong token", plain, "first-token-of-some", 401},
			{"token", plain, "first-token-of-many", 200},
			{"certificate", mutual, "", 200},
		} {
			if got := request(tc.client, path, tc.token); got != tc.want {
				t.Errorf("%s with %s: %d, want %d", path, tc.name, got, tc.want)
			}
		}
	}
	if err := os.WriteFile(tokens, []byte("second-token-of-many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if a, b := request(plain, "/v1/pushes", "first-token-of-many"), request(plain, "/v1/pushes", "second-token-of-many"); a != 401 || b != 200 {
		t.Errorf("after reload: old token %d, new token %d", a, b)
	}
	if err := os.WriteFile(cfg.ClientCAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clientCert(t).Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	mutual.CloseIdleConnections()
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if request(mutual, "/v1/pushes", "") == 200 {
		t.Error("a certificate of an authority that was taken out still opens")
	}
	if err := os.WriteFile(tokens, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if g.Reload() == nil || request(plain, "/v1/pushes", "second-token-of-many") != 200 {
		t.Error("a bad token file took effect")
	}
}
