package apns

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
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/provider"
)

// stub answers as its function says and counts nothing else.
type stub func(*http.Request) (int, string)

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := s(r)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}
func (stub) Close() {}

func keyFile(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writeKey(t, key)
}

func secretFile(t *testing.T, text string) config.SecretFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.SecretFile(path)
}

func writeKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "AuthKey.p8")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newStubbed(t *testing.T, change func(*Config), s stub) *Provider {
	t.Helper()
	cfg := Config{KeyFile: keyFile(t), KeyID: "KEY", TeamID: "TEAM", Topic: "cx.ring.test",
		NewTransport: func(string, *tls.Config) Transport { return s }}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOtherEnvironment: a token that is bad in production is tried in the sandbox, once, and remembered.
func TestOtherEnvironment(t *testing.T) {
	var hosts []string
	p := newStubbed(t, func(c *Config) { c.TryOther = true }, func(r *http.Request) (int, string) {
		hosts = append(hosts, r.URL.Host)
		if r.URL.Host == "api.push.apple.com" || strings.HasSuffix(r.URL.Path, "junk") {
			return 400, `{"reason":"BadDeviceToken"}`
		}
		return 200, ""
	})
	dev := &provider.Message{Target: provider.Target{Token: "dev"}, ExpiresAt: time.Now().Add(time.Hour)}
	for range 2 {
		if out := p.Send(t.Context(), dev); out.Verdict != provider.Delivered {
			t.Fatalf("%+v", out)
		}
	}
	if got := strings.Join(hosts, " "); got != "api.push.apple.com api.sandbox.push.apple.com api.sandbox.push.apple.com" {
		t.Errorf("asked %s", got)
	}
	if p.Host(dev) != "sandbox" {
		t.Errorf("host %s", p.Host(dev))
	}
	junk := &provider.Message{Target: provider.Target{Token: "junk"}, ExpiresAt: time.Now().Add(time.Hour)}
	if out := p.Send(t.Context(), junk); out.Verdict != provider.DropToken || len(hosts) != 5 {
		t.Errorf("%+v after %d requests", out, len(hosts))
	}
}

// TestClockWrong: a provider token that is refused as expired while it is young means that our clock is wrong.
func TestClockWrong(t *testing.T) {
	n := 0
	p := newStubbed(t, nil, func(*http.Request) (int, string) { n++; return 403, `{"reason":"ExpiredProviderToken"}` })
	out := p.Send(context.Background(), &provider.Message{Target: provider.Target{Token: "dev"}})
	if out.Verdict != provider.Refused || n != 1 {
		t.Errorf("%+v after %d requests", out, n)
	}
}

func TestCertificate(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	p12, err := pkcs12.Modern.Encode(key, leaf, nil, "password")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "push.p12")
	if err := os.WriteFile(path, p12, 0o600); err != nil {
		t.Fatal(err)
	}
	var certs int
	cfg := Config{CertFile: path, CertPassword: secretFile(t, "password"), NewTransport: func(_ string, t *tls.Config) Transport {
		certs += len(t.Certificates)
		return stub(func(r *http.Request) (int, string) {
			if r.Header.Get("Authorization") != "" {
				return 403, `{"reason":"InvalidProviderToken"}`
			}
			return 200, ""
		})
	}}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out := p.Send(t.Context(), &provider.Message{Target: provider.Target{Token: "dev", Topic: "x"}})
	if out.Verdict != provider.Delivered || certs != 2 {
		t.Errorf("%+v, %d certificates", out, certs)
	}
	cfg.CertPassword = secretFile(t, "wrong")
	if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", junk, writeKey(t, p384), "testdata/none"} {
		if _, err := New(Config{KeyFile: path, KeyID: "K", TeamID: "T"}); err == nil {
			t.Errorf("key file %q accepted", path)
		}
	}
	p := newStubbed(t, nil, func(*http.Request) (int, string) { return 200, "" })
	p.cfg.KeyFile = junk
	if p.Reload() == nil {
		t.Error("a bad key file was reloaded")
	}
	if out := p.Send(t.Context(), &provider.Message{Target: provider.Target{Token: "dev"}}); out.Verdict != provider.Delivered {
		t.Errorf("after a failed reload: %+v", out)
	}
}

// TestReload: another key in the file signs what is sent next.
func TestReload(t *testing.T) {
	var seen []string
	p := newStubbed(t, nil, func(r *http.Request) (int, string) {
		seen = append(seen, r.Header.Get("Authorization"))
		return 200, ""
	})
	m := &provider.Message{Target: provider.Target{Token: "dev"}}
	p.Send(t.Context(), m)
	p.Send(t.Context(), m)
	p.cfg.KeyFile = keyFile(t)
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	p.Send(t.Context(), m)
	if len(seen) != 3 || seen[0] != seen[1] || seen[1] == seen[2] {
		t.Errorf("provider tokens %q", seen)
	}
}

func TestPayloadTooLarge(t *testing.T) {
	p := newStubbed(t, nil, func(*http.Request) (int, string) { return 200, "" })
	d, err := provider.ParseData([]byte(`{"a":"` + strings.Repeat("x", 4070) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	if out := p.Send(t.Context(), &provider.Message{Data: d}); out.Reason != provider.ReasonTooLarge {
		t.Errorf("%+v", out)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(410, []byte(`{"reason":"Unregistered","timestamp":1795242961302}`))
	f.Add(400, []byte(`{"reason":"BadDeviceToken"}`))
	f.Add(429, []byte(`{"reason":1}`))
	now := time.Unix(1795242961, 0)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		out := classify(status, http.Header{}, parseAnswer(body), now)
		if (out.Verdict == provider.Delivered) != (status == 200) {
			t.Errorf("%d is %v", status, out.Verdict)
		}
	})
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"key":"k","aps":{"alert":"mine"},"t":5}`), "hello", "", uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, title, body string, kind uint8) {
		d, err := provider.ParseData(data)
		if err != nil {
			return
		}
		raw := AppendPayload(nil, &provider.Message{Data: d, Title: title, Body: body, Kind: provider.Kind(kind % 3)})
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if n := strings.Count(string(raw), `"aps":{`); n < 1 || len(m) != len(d.Without("aps"))+1 {
			t.Errorf("payload %s of %s", raw, data)
		}
	})
}
