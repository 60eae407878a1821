package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// acmeSource obtains and renews certificates through certmagic.
type acmeSource struct {
	domains []string
	magic   *certmagic.Config
	cache   *certmagic.Cache
}

func newACME(cfg ACME) (*acmeSource, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("certs: acme: %w", err)
	}
	roots, err := acmeRoots(cfg.RootFile)
	if err != nil {
		return nil, err
	}
	s := &acmeSource{domains: cfg.Domains}
	s.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return s.magic, nil },
		Logger:           zap.NewNop(),
	})
	s.magic = certmagic.New(s.cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: cfg.StateDir}, Logger: zap.NewNop()})
	s.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(s.magic, certmagic.ACMEIssuer{
		CA:                   cfg.Directory,
		Email:                cfg.Email,
		Agreed:               true,
		DisableHTTPChallenge: true,
		TrustedRoots:         roots,
		AltTLSALPNPort:       cfg.Port,
		Logger:               zap.NewNop(),
	})}
	return s, nil
}

// acmeRoots returns nil for the system's roots.
func acmeRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certs: acme: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certs: acme: %s holds no PEM certificate", path)
	}
	return pool, nil
}

// tlsConfig includes the acme-tls/1 protocol that answers the authority's challenge.
func (s *acmeSource) tlsConfig() *tls.Config {
	c := s.magic.TLSConfig()
	c.MinVersion = tls.VersionTLS12
	return c
}

// run obtains what is missing, retrying by itself, and renews until ctx is done.
func (s *acmeSource) run(ctx context.Context) error {
	defer s.cache.Stop()
	if err := s.magic.ManageAsync(ctx, s.domains); err != nil {
		return fmt.Errorf("certs: acme: %w", err)
	}
	<-ctx.Done()
	return nil
}
