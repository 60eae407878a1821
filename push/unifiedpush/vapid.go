package unifiedpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/push/es256"
	"github.com/jirani/jirani/push/provider"
)

const (
	vapidLife   = 12 * time.Hour // RFC 8292 §2: at most 24
	vapidReuse  = 11 * time.Hour
	maxOrigins  = 1000 // origins whose token is kept
	vapidHeader = `{"typ":"JWT","alg":"ES256"}`
)

// VAPID is the identity under which we push. Subscriptions may be bound to its public key, so the key must
// survive: with another one such subscriptions refuse us. Whoever has it can push to them in our name.
type VAPID struct {
	key     *ecdsa.PrivateKey
	public  string // base64url of the uncompressed point
	subject string

	mu     sync.Mutex
	tokens map[string]vapidToken // by origin
}

type vapidToken struct {
	header string
	until  time.Time
}

// NewVAPID uses key with subject, a mailto: or https: URL by which push servers reach the operator.
func NewVAPID(key *ecdsa.PrivateKey, subject string) (*VAPID, error) {
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: vapid key: %w", err)
	}
	if key.Curve != elliptic.P256() {
		return nil, errors.New("unifiedpush: vapid key is not on P-256")
	}
	if !strings.HasPrefix(subject, "mailto:") && !strings.HasPrefix(subject, "https:") {
		return nil, errors.New("unifiedpush: vapid subject is neither a mailto: nor an https: URL")
	}
	return &VAPID{key: key, public: encode64(public), subject: subject,
		tokens: make(map[string]vapidToken)}, nil
}

// LoadVAPID reads the key from a PEM file, or makes one if the file does not exist.
func LoadVAPID(path, subject string) (*VAPID, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		raw, err = createKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: vapid key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("unifiedpush: vapid key: %s: not PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("unifiedpush: vapid key: %s: not PKCS #8", path)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("unifiedpush: vapid key: %s: not an ECDSA key", path)
	}
	return NewVAPID(ec, subject)
}

func createKey(path string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return raw, durable.WriteFile(path, raw, 0o600)
}

// PublicKey is the key in base64url, as an app gives it when it subscribes (applicationServerKey).
func (v *VAPID) PublicKey() string { return v.public }

// Authorization returns the header for a push resource, with a token that is kept per origin (RFC 8292 §§2, 3).
func (v *VAPID) Authorization(u *url.URL, now time.Time) (string, error) {
	origin := u.Scheme + "://" + u.Host
	v.mu.Lock()
	defer v.mu.Unlock()
	if t, ok := v.tokens[origin]; ok && now.Before(t.until) {
		return t.header, nil
	}
	claims := provider.AppendString([]byte(`{"aud":`), origin)
	claims = fmt.Appendf(claims, `,"exp":%d,"sub":`, now.Add(vapidLife).Unix())
	claims = append(provider.AppendString(claims, v.subject), '}')
	token, err := es256.Sign(v.key, []byte(vapidHeader), claims)
	if err != nil {
		return "", err
	}
	if len(v.tokens) >= maxOrigins {
		clear(v.tokens)
	}
	header := "vapid t=" + token + ", k=" + v.public
	v.tokens[origin] = vapidToken{header, now.Add(vapidReuse)}
	return header, nil
}
