package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/logging"
	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// authority runs Pebble, the test authority of Let's Encrypt, which checks challenges for every name on loopback at tlsPort. It returns
// the directory's URL, a file with the root of its HTTPS, and the root of what it issues.
func authority(t *testing.T, tlsPort int) (directory, rootFile string, issued *x509.CertPool) {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	dnsAddr := freeUDP(t)
	names, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{dnsAddr}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	names.SetDefaultDNSIPv4("127.0.0.1")
	names.SetDefaultDNSIPv6("")
	go names.Run() // ends with Shutdown
	t.Cleanup(names.Shutdown)

	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	validator := va.New(quiet, 1, tlsPort, true, dnsAddr, store)
	front := wfe.New(quiet, store, validator, issuer, []string{"pebble.letsencrypt.org"}, true, false, 1, 1)
	srv := httptest.NewTLSServer(front.Handler())
	t.Cleanup(srv.Close)

	rootFile = filepath.Join(t.TempDir(), "root.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(rootFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	issued = x509.NewCertPool()
	issued.AddCert(issuer.GetRootCert(0).Cert)
	return srv.URL + wfe.DirectoryPath, rootFile, issued
}

func freeUDP(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

func TestACME(t *testing.T) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	directory, rootFile, issued := authority(t, port)
	m, err := New(Config{ACME: ACME{
		Domains: []string{"names.jirani.test"}, Directory: directory, RootFile: rootFile, StateDir: t.TempDir(), Port: port,
	}}, logging.Discard())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	go srv.Serve(tls.NewListener(ln, m.TLSConfig())) // ends with Close
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}()
	client := &tls.Dialer{Config: &tls.Config{ServerName: "names.jirani.test", RootCAs: issued}}
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := client.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no certificate from the authority: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
