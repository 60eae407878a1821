package fake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// WebPush is a push server as in RFC 8030, and the user agents behind it.
type WebPush struct {
	*record
	*origin
	play *player
	base string // https://host:port

	// RequireVAPID refuses requests without a VAPID token (RFC 8292 §4.2).
	RequireVAPID bool

	mu   sync.Mutex
	subs map[string]*Subscription
	vap  map[string]error // VAPID headers already judged
}

// Subscription is a user agent's, with the private half of its keys.
type Subscription struct {
	Endpoint string
	key      *ecdh.PrivateKey
	auth     []byte
}

// NewSubscription makes keys for endpoint.
func NewSubscription(endpoint string) (*Subscription, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &Subscription{Endpoint: endpoint, key: key, auth: make([]byte, 16)}
	rand.Read(s.auth) // never fails
	return s, nil
}

// Topic is the subscription's keys as Jami's Android client gives them: "p256dh|auth" in base64url.
func (s *Subscription) Topic() string {
	return base64.RawURLEncoding.EncodeToString(s.key.PublicKey().Bytes()) + "|" + base64.RawURLEncoding.EncodeToString(s.auth)
}

// Subscribe makes a subscription on this server. Its name is the end of its endpoint.
func (w *WebPush) Subscribe(name string) (*Subscription, error) {
	s, err := NewSubscription(w.base + "/" + name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.subs[name] = s
	w.mu.Unlock()
	return s, nil
}

func (w *WebPush) handle(r *request) response {
	name := strings.TrimPrefix(r.path, "/")
	w.try(name)
	res := w.judge(r, name)
	res.delay = w.play.Latency
	if res.commit == nil {
		status := res.status
		res.commit = func() { w.answer(status, nil) }
	}
	return res
}

var topicHeader = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (w *WebPush) judge(r *request, name string) response {
	h := r.header
	_, ttlErr := strconv.ParseUint(h.Get("TTL"), 10, 31)
	urgency := h.Get("Urgency")
	switch {
	case r.method != http.MethodPost:
		return response{status: 405}
	case ttlErr != nil: // RFC 8030 §5.2: MUST be included
		return response{status: 400, body: []byte("TTL")}
	case urgency != "" && urgency != "very-low" && urgency != "low" && urgency != "normal" && urgency != "high":
		return response{status: 400, body: []byte("Urgency")}
	case h.Get("Topic") != "" && !topicHeader.MatchString(h.Get("Topic")):
		return response{status: 400, body: []byte("Topic")}
	case len(r.body) > 4096: // RFC 8030 §7.2
		return response{status: 413}
	}
	if err := w.checkVAPID(h.Get("Authorization"), "https://"+h.Get("Host")); err != nil {
		return response{status: 403, body: []byte(err.Error())}
	}
	if f := w.play.fault(name); f != nil {
		return response{status: f.Status, header: f.headers(), hang: f.Status == 0}
	}
	return w.accept(r, name)
}

func (w *WebPush) accept(r *request, name string) response {
	w.mu.Lock()
	sub := w.subs[name]
	w.mu.Unlock()
	body := r.body
	if sub != nil && r.header.Get("Content-Encoding") == "aes128gcm" {
		plain, err := sub.Decrypt(body)
		if err != nil {
			return response{status: 400, body: []byte(err.Error())}
		}
		body = plain
	}
	p := &Push{Token: name, Path: r.path, Header: r.header, Body: body}
	return response{status: 201, header: map[string]string{"location": w.base + "/m/1", "ttl": r.header.Get("TTL")},
		commit: func() { w.answer(201, p) }}
}

func (w *WebPush) checkVAPID(auth, origin string) error {
	if auth == "" && !w.RequireVAPID {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err, known := w.vap[auth]; known && err == nil {
		return nil
	}
	err := CheckVAPID(auth, origin, time.Now())
	if len(w.vap) < 1000 {
		w.vap[auth] = err
	}
	return err
}

// CheckVAPID verifies an Authorization header of the vapid scheme for the origin of a push resource (RFC 8292).
func CheckVAPID(auth, origin string, now time.Time) error {
	scheme, rest, _ := strings.Cut(auth, " ")
	if !strings.EqualFold(scheme, "vapid") {
		return errors.New("fake: not vapid")
	}
	params := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		params[name] = value
	}
	raw, err := base64.RawURLEncoding.DecodeString(params["k"])
	if err != nil {
		return errors.New("fake: vapid key not base64url")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return errors.New("fake: vapid key not a point")
	}
	t, err := parseJWT(params["t"], key)
	if err != nil {
		return err
	}
	exp := time.Unix(t.claims.Exp, 0)
	switch {
	case t.claims.Aud != origin:
		return errors.New("fake: vapid aud " + t.claims.Aud)
	case exp.Before(now) || exp.After(now.Add(24*time.Hour)): // RFC 8292 §2
		return errors.New("fake: vapid exp")
	case t.claims.Sub != "" && !strings.HasPrefix(t.claims.Sub, "https:") &&
		(!strings.HasPrefix(t.claims.Sub, "mailto:") || strings.HasPrefix(t.claims.Sub, "mailto:mailto:")): // §2.1
		return errors.New("fake: vapid sub")
	}
	return nil
}

var errDecrypt = errors.New("fake: cannot decrypt")

// Decrypt opens an aes128gcm body (RFC 8291 §3, RFC 8188 §2): salt 16, record size 4, key id length 1, the
// sender's public key 65, then one record.
func (s *Subscription) Decrypt(body []byte) ([]byte, error) {
	return decrypt(s.key, s.auth, body)
}

func decrypt(key *ecdh.PrivateKey, auth, body []byte) ([]byte, error) {
	const head = 16 + 4 + 1 + 65
	if len(body) < head+17 || body[20] != 65 {
		return nil, errDecrypt
	}
	salt, rs, sender, record := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:head], body[head:]
	if rs < 18 || uint32(len(record)) > rs {
		return nil, errDecrypt
	}
	pub, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, errDecrypt
	}
	secret, err := key.ECDH(pub)
	if err != nil {
		return nil, errDecrypt
	}
	info := "WebPush: info\x00" + string(key.PublicKey().Bytes()) + string(sender)
	ikm := derive(secret, auth, info, 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		return nil, errDecrypt
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, errDecrypt
	}
	plain, err := gcm.Open(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), record, nil)
	if err != nil {
		return nil, errDecrypt
	}
	end := len(plain)
	for end > 0 && plain[end-1] == 0 { // RFC 8188 §2: zeros after the delimiter
		end--
	}
	if end == 0 || plain[end-1] != 2 {
		return nil, errDecrypt
	}
	return plain[:end-1], nil
}

func derive(secret, salt []byte, info string, n int) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, n)
	if err != nil {
		panic(err) // the lengths here are constants
	}
	return key
}

// RestoreSubscription makes a subscription with given keys: a P-256 scalar and a secret of 16 bytes.
func RestoreSubscription(endpoint string, private, auth []byte) (*Subscription, error) {
	key, err := ecdh.P256().NewPrivateKey(private)
	if err != nil || len(auth) != 16 {
		return nil, errors.New("fake: not the keys of a subscription")
	}
	return &Subscription{Endpoint: endpoint, key: key, auth: auth}, nil
}
