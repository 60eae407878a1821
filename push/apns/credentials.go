package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/es256"
	"github.com/jirani/jirani/push/provider"
)

const (
	jwtRenewal = 40 * time.Minute // Apple: at most 60
	jwtMinLife = 20 * time.Minute // Apple: 429 TooManyProviderTokenUpdates below
)

// signer makes provider tokens and keeps the current one.
type signer struct {
	key           *ecdsa.PrivateKey
	keyID, teamID string

	mu      sync.Mutex
	current string
	issued  time.Time
}

func newSigner(path, keyID, teamID string) (*signer, error) {
	raw, err := provider.ReadCredential(path)
	if err != nil {
		return nil, errorf("%w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errorf("%s: not a .p8 file (PEM)", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errorf("%s: not a PKCS #8 key", path)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errorf("%s: not an ES256 key", path)
	}
	return &signer{key: ec, keyID: keyID, teamID: teamID}, nil
}

// token returns the current provider token, made anew when it is due.
func (s *signer) token(now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != "" && now.Sub(s.issued) < jwtRenewal {
		return s.current, nil
	}
	header := append(provider.AppendString([]byte(`{"alg":"ES256","kid":`), s.keyID), '}')
	claims := fmt.Appendf(provider.AppendString([]byte(`{"iss":`), s.teamID), `,"iat":%d}`, now.Unix())
	t, err := es256.Sign(s.key, header, claims)
	if err != nil {
		return "", err
	}
	s.current, s.issued = t, now
	return t, nil
}

// renew drops a token that Apple calls expired and reports whether to try again. A token refused so young means
// that a clock is wrong, and another one would only bring TooManyProviderTokenUpdates.
func (s *signer) renew(refused string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != refused {
		return true // another sender renewed it meanwhile
	}
	if now.Sub(s.issued) < jwtMinLife {
		return false
	}
	s.current = ""
	return true
}

func loadP12(path string, passwordFile config.SecretFile) (tls.Certificate, error) {
	raw, err := provider.ReadCredential(path)
	if err != nil {
		return tls.Certificate{}, errorf("%w", err)
	}
	password := ""
	if passwordFile != "" {
		if password, err = passwordFile.Read(); err != nil {
			return tls.Certificate{}, errorf("%w", err)
		}
	}
	key, leaf, chain, err := pkcs12.DecodeChain(raw, password)
	if err != nil {
		return tls.Certificate{}, errorf("%s: cannot open (wrong password?): %v", path, err)
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}
