package push

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/httpapi"
)

// tokenSet holds the bearer tokens that open the gateway, as hashes: looking a hash up tells nothing by its timing.
type tokenSet map[[sha256.Size]byte]bool

const minToken = 16 // characters; shorter ones can be guessed

func readTokens(file config.SecretFile) (tokenSet, error) {
	set := make(tokenSet)
	if file == "" {
		return set, nil
	}
	text, err := file.Read()
	if err != nil {
		return nil, fmt.Errorf("push: tokens: %w", err)
	}
	for line := range strings.Lines(text) {
		token, _, _ := strings.Cut(line, "#")
		if token = strings.TrimSpace(token); token == "" {
			continue
		}
		if len(token) < minToken {
			return nil, fmt.Errorf("push: %s: a token has under %d characters", file, minToken)
		}
		set[sha256.Sum256([]byte(token))] = true
	}
	return set, nil
}

// askForCertificates has clients asked for certificates, and those that come verified by the authorities in the file as
// of the last load.
func (s *Server) askForCertificates(t *tls.Config) (*tls.Config, error) {
	t.ClientAuth = tls.VerifyClientCertIfGiven
	s.mutualTLS.Store(t)
	outer := t.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.mutualTLS.Load(), nil }
	return outer, s.loadClientCAs()
}

// loadClientCAs reads the file for the connections to come.
func (s *Server) loadClientCAs() error {
	file := s.cfg.ClientCAFile
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("push: client CA: %w", err)
	}
	t := s.mutualTLS.Load().Clone()
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(raw) {
		return fmt.Errorf("push: client CA: %s: no certificate", file)
	}
	s.mutualTLS.Store(t)
	return nil
}

// known reports whether the caller has shown a bearer token or a client certificate.
func (s *Server) known(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && (*s.tokens.Load())[sha256.Sum256([]byte(token))]
}

// authorize guards the /v1 routes. A gateway without any credentials listens on loopback only, and is open there.
func (s *Server) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.guarded && !s.known(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="push"`)
			problem(w, http.StatusUnauthorized, "push-unauthorized", "Credentials needed", "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authorizeCompat guards the gorush dialect, whose callers can be told only by where they come from.
func (s *Server) authorizeCompat(r *http.Request) bool {
	from := httpapi.ClientIP(r, s.cfg.TrustedProxies)
	return slices.ContainsFunc(s.cfg.Compat.Allow, func(n netip.Prefix) bool { return n.Contains(from) }) || s.known(r)
}
