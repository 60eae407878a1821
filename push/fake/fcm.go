package fake

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Numbers and names from Google's documents (FCM HTTP v1 reference; OAuth 2.0 for service accounts).
const (
	fcmScope      = "https://www.googleapis.com/auth/firebase.messaging"
	fcmGrant      = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	fcmMaxPayload = 4096 // of data, keys and values
	fcmMaxTTL     = 2_419_200
)

// FCM is Firebase Cloud Messaging and the token endpoint in front of it.
type FCM struct {
	*record
	*origin
	play *player

	project  string
	email    string
	tokenURI string
	key      *rsa.PublicKey
	life     time.Duration // of access tokens

	mu     sync.Mutex
	bearer map[string]time.Time // access tokens and when they end
	issued int
}

func (f *FCM) handle(r *request) response {
	if r.path == "/token" {
		return f.token(r)
	}
	var m fcmRequest
	err := decodeFCM(r.body, &m)
	f.try(m.Message.Token)
	res := f.judge(r, &m, err)
	res.delay = f.play.Latency
	if res.commit == nil {
		status := res.status
		res.commit = func() { f.answer(status, nil) }
	}
	return res
}

// token exchanges a signed assertion for an access token (RFC 7523 §2.1).
func (f *FCM) token(r *request) response {
	form, err := url.ParseQuery(string(r.body))
	if err != nil || form.Get("grant_type") != fcmGrant {
		return response{status: 400, body: []byte(`{"error":"unsupported_grant_type"}`)}
	}
	t, err := parseJWT(form.Get("assertion"), f.key)
	now := time.Now()
	exp := time.Unix(t.claims.Exp, 0)
	if err != nil || t.claims.Iss != f.email || t.claims.Aud != f.tokenURI || t.claims.Scope != fcmScope ||
		!t.fresh(now, time.Hour) || now.After(exp) || exp.Sub(time.Unix(t.claims.Iat, 0)) > time.Hour {
		return response{status: 400, body: []byte(`{"error":"invalid_grant","error_description":"Invalid JWT"}`)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	access := fmt.Sprintf("ya29.fake-%d", f.issued)
	f.bearer[access] = now.Add(f.life)
	return response{status: 200, header: map[string]string{"content-type": "application/json"},
		body: fmt.Appendf(nil, `{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, access, int(f.life/time.Second))}
}

// Issued is how many access tokens were handed out.
func (f *FCM) Issued() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued
}

// Revoke ends every access token, as Google does when a key is disabled and enabled again.
func (f *FCM) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.bearer)
}

type fcmRequest struct {
	ValidateOnly bool `json:"validate_only"`
	Message      struct {
		Token        string            `json:"token"`
		Data         map[string]string `json:"data"`
		Notification json.RawMessage   `json:"notification"`
		Android      struct {
			CollapseKey string `json:"collapse_key"`
			Priority    string `json:"priority"`
			TTL         string `json:"ttl"`
		} `json:"android"`
	} `json:"message"`
}

// decodeFCM is strict: Google answers 400 to a member it does not know or of another type.
func decodeFCM(body []byte, m *fcmRequest) error {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	return dec.Decode(m)
}

func (f *FCM) judge(r *request, m *fcmRequest, malformed error) response {
	access, ok := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
	f.mu.Lock()
	until, known := f.bearer[access]
	f.mu.Unlock()
	switch {
	case r.path != "/v1/projects/"+f.project+"/messages:send" || r.method != http.MethodPost:
		return response{status: 404, body: []byte("not found")}
	case !ok || !known || time.Now().After(until):
		return fcmError(401, "UNAUTHENTICATED", "", "Request had invalid authentication credentials.", nil)
	case malformed != nil:
		return fcmError(400, "INVALID_ARGUMENT", "", "Invalid JSON payload received.", nil)
	}
	if why := refuseFCM(m); why != "" {
		return fcmError(400, "INVALID_ARGUMENT", "", why, nil)
	}
	if ft := f.play.fault(m.Message.Token); ft != nil {
		res := fcmFault(ft)
		res.hang = ft.Status == 0
		return res
	}
	p := &Push{Token: m.Message.Token, Path: r.path, Header: r.header, Body: r.body}
	return response{status: 200, header: map[string]string{"content-type": "application/json; charset=UTF-8"},
		body:   fmt.Appendf(nil, `{"name":"projects/%s/messages/0:1"}`, f.project),
		commit: func() { f.answer(200, p) }}
}

var fcmTTL = regexp.MustCompile(`^[0-9]{1,7}(\.[0-9]{1,9})?s$`)

// refuseFCM returns what is wrong with a message, "" if nothing is.
func refuseFCM(m *fcmRequest) string {
	size := 0
	for k, v := range m.Message.Data {
		size += len(k) + len(v)
		if k == "from" || k == "gcm" || strings.HasPrefix(k, "google") || k == "message_type" {
			return "Invalid data payload key: " + k
		}
	}
	a := m.Message.Android
	switch {
	case m.Message.Token == "":
		return "Recipient of the message is not set."
	case size > fcmMaxPayload:
		return "Message is too big"
	case a.Priority != "" && !strings.EqualFold(a.Priority, "high") && !strings.EqualFold(a.Priority, "normal"):
		return "Invalid value at 'message.android.priority'"
	case a.TTL != "" && !fcmTTL.MatchString(a.TTL):
		return "Invalid value at 'message.android.ttl'"
	}
	var secs float64
	if fmt.Sscanf(a.TTL, "%fs", &secs); secs > fcmMaxTTL {
		return "Invalid value at 'message.android.ttl'"
	}
	return ""
}

// fcmWords are Google's status and FcmError code for an HTTP status, when the script names none.
var fcmWords = map[int][2]string{
	400: {"INVALID_ARGUMENT", "INVALID_ARGUMENT"},
	401: {"UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"},
	403: {"PERMISSION_DENIED", "SENDER_ID_MISMATCH"},
	404: {"NOT_FOUND", "UNREGISTERED"},
	410: {"NOT_FOUND", "UNREGISTERED"},
	429: {"RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"},
	500: {"INTERNAL", "INTERNAL"},
	503: {"UNAVAILABLE", "UNAVAILABLE"},
}

func fcmFault(ft *Fault) response {
	words := fcmWords[ft.Status]
	if ft.Reason != "" {
		words[1] = ft.Reason
	}
	status := ft.Status
	if status == http.StatusGone {
		status = http.StatusNotFound
	}
	text := "fault by script"
	if words[1] == "INVALID_ARGUMENT" {
		text = "The registration token is not a valid FCM registration token"
	}
	return fcmError(status, words[0], words[1], text, ft.headers())
}

func fcmError(status int, word, code, text string, header map[string]string) response {
	details := ""
	if code != "" {
		details = fmt.Sprintf(`,"details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":%q}]`, code)
	}
	if header == nil {
		header = map[string]string{}
	}
	header["content-type"] = "application/json; charset=UTF-8"
	return response{status: status, header: header,
		body: fmt.Appendf(nil, `{"error":{"code":%d,"message":%q,"status":%q%s}}`, status, text, word, details)}
}
