package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jirani/jirani/internal/logging"
)

func writePair(t *testing.T, dir, host string) Config {
	t.Helper()
	cert, err := SelfSigned(time.Now(), 24*time.Hour, host)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := WriteFiles(dir, cert)
	if err != nil {
		t.Fatal(err)
	}
	return Config{CertFile: certFile, KeyFile: keyFile}
}

// presented returns the first DNS name of the certificate that a handshake would show.
func presented(t *testing.T, m *Manager) string {
	t.Helper()
	cert, err := m.TLSConfig().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.DNSNames[0]
}

func TestReloadWhenFilesChange(t *testing.T) {
	dir := t.TempDir()
	cfg := writePair(t, dir, "one.example")
	synctest.Test(t, func(t *testing.T) {
		m, err := New(cfg, logging.Discard())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		if got := presented(t, m); got != "one.example" {
			t.Errorf("presented %s", got)
		}
		writePair(t, dir, "two.example")
		time.Sleep(checkEvery + time.Second) // synthetic
		synctest.Wait()
		if got := presented(t, m); got != "two.example" {
			t.Errorf("after the files changed, presented %s", got)
		}
		if err := os.WriteFile(cfg.KeyFile, []byte("half a ke"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkEvery + time.Second)
		synctest.Wait()
		if got := presented(t, m); got != "two.example" {
			t.Errorf("after the key was damaged, presented %s", got)
		}
		if err := m.Reload(); err == nil {
			t.Error("Reload of a damaged key succeeded")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestNewWithoutFiles(t *testing.T) {
	if _, err := New(Config{CertFile: "/nonexistent/c", KeyFile: "/nonexistent/k"}, logging.Discard()); err == nil {
		t.Error("New without files succeeded")
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"none", Config{}, ""},
		{"files", Config{CertFile: "c", KeyFile: "k"}, ""},
		{"half", Config{CertFile: "c"}, "key_file: "},
		{"both", Config{CertFile: "c", KeyFile: "k", ACME: ACME{Domains: []string{"a.example"}, StateDir: "d"}}, "acme.domains: "},
		{"no state", Config{ACME: ACME{Domains: []string{"a.example"}}}, "acme.state_dir: "},
	}
	for _, tt := range tests {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Validate = %v, want %q", tt.name, err, tt.want)
		}
	}
}
