// Package certs provides the TLS certificates of all servers: from files, read again when they change, or from an ACME authority.
//
// The private key's holder can impersonate the server; its loss costs a new certificate and nothing else. The ACME state directory
// holds account key, certificates and private keys and is trusted the same.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
)

// checkEvery is how often files are looked at for changes besides explicit reloads: certificate managers replace them weeks ahead.
const checkEvery = time.Minute

// Config is a tls section. Either both files or at least one ACME domain; neither means no TLS.
type Config struct {
	CertFile string `yaml:"cert_file"` // PEM chain, leaf first
	KeyFile  string `yaml:"key_file"`  // PEM private key
	ACME     ACME   `yaml:"acme"`      // certificates from an authority, instead of files
}

// ACME asks an authority such as Let's Encrypt for certificates through the tls-alpn-01 challenge on the TLS listener, which must be
// reachable on port 443 from the authority (RFC 8737).
type ACME struct {
	Domains   []string `yaml:"domains"`   // names to have certificates for; empty turns ACME off
	Email     string   `yaml:"email"`     // contact for the authority; may be empty
	Directory string   `yaml:"directory"` // URL of the authority's directory; "" means Let's Encrypt
	RootFile  string   `yaml:"root_file"` // PEM roots for a private authority's own TLS; "" means the system's
	StateDir  string   `yaml:"state_dir"` // where account and certificates are kept; must survive restarts
	Port      int      `yaml:"port"`      // port of the TLS listener of this server that answers the challenge; 0 means 443
}

// Enabled reports whether the section asks for TLS at all.
func (c Config) Enabled() bool { return c.CertFile != "" || c.KeyFile != "" || len(c.ACME.Domains) > 0 }

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	if (c.CertFile == "") != (c.KeyFile == "") {
		p.Add("key_file", "cert_file and key_file go together")
	}
	if c.CertFile != "" && len(c.ACME.Domains) > 0 {
		p.Add("acme.domains", "either files or acme, not both")
	}
	if len(c.ACME.Domains) > 0 && c.ACME.StateDir == "" {
		p.Add("acme.state_dir", "must name a directory that survives restarts")
	}
	return p.Err()
}

// Manager hands out the current certificate.
type Manager struct {
	cfg  Config
	log  *slog.Logger
	acme *acmeSource // nil when from files

	mu      sync.RWMutex // guards what follows
	cert    *tls.Certificate
	modTime [2]time.Time // of CertFile and KeyFile when read
}

// New reads the files of cfg, which must be valid and [Config.Enabled], or prepares the ACME account. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Manager, error) {
	m := &Manager{cfg: cfg, log: log}
	if len(cfg.ACME.Domains) > 0 {
		source, err := newACME(cfg.ACME)
		if err != nil {
			return nil, err
		}
		m.acme = source
		return m, nil
	}
	return m, m.Reload()
}

// TLSConfig returns a server configuration, TLS 1.2 or later, that always presents the current certificate. The caller may set
// NextProtos; with ACME it must keep those present.
func (m *Manager) TLSConfig() *tls.Config {
	if m.acme != nil {
		return m.acme.tlsConfig()
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			m.mu.RLock()
			defer m.mu.RUnlock()
			return m.cert, nil
		},
	}
}

// Reload reads the files again. When they cannot be used the error says why and the old certificate stays. Safe for concurrent use.
func (m *Manager) Reload() error {
	if m.acme != nil {
		return nil
	}
	times, err := m.stat()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(m.cfg.CertFile, m.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("certs: %s: %w", m.cfg.CertFile, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cert, m.modTime = &cert, times
	return nil
}

func (m *Manager) stat() (times [2]time.Time, err error) {
	for i, path := range []string{m.cfg.CertFile, m.cfg.KeyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return times, fmt.Errorf("certs: %w", err)
		}
		times[i] = info.ModTime()
	}
	return times, nil
}

// Run keeps the certificate current until ctx is done: it looks at the files once a minute, or renews with the authority.
func (m *Manager) Run(ctx context.Context) error {
	if m.acme != nil {
		return m.acme.run(ctx)
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.reloadIfChanged()
		}
	}
}

func (m *Manager) reloadIfChanged() {
	times, err := m.stat()
	m.mu.RLock()
	same := times == m.modTime
	m.mu.RUnlock()
	if err == nil && same {
		return
	}
	if err = errors.Join(err, m.Reload()); err != nil {
		m.log.Error("certificate not reloaded, the old one stays", logging.KeyErr, err)
		return
	}
	m.log.Info("certificate reloaded", logging.KeyPath, m.cfg.CertFile)
}
