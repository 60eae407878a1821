package fake

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Numbers from Apple's documents ("Sending notification requests to APNs", "Establishing a token-based
// connection to APNs").
const (
	apnsMaxPayload     = 4096
	apnsMaxVoIP        = 5120
	apnsTokenLife      = time.Hour
	apnsTokenMinChange = 20 * time.Minute
	apnsMaxCollapse    = 64
)

// APNs is one environment of Apple's service.
type APNs struct {
	*record
	*origin
	play *player

	keyID, teamID string
	key           *ecdsa.PublicKey
	topics        map[string]bool
	clientCert    []byte // DER of the provider certificate that is accepted instead of a JWT

	mu      sync.Mutex
	offline map[string]*Push // devices that are off, and the one notification kept for each
}

// apnsReasons are what Apple says for a status, when the script names none.
var apnsReasons = map[int]string{
	400: "BadDeviceToken", 403: "InvalidProviderToken", 410: "Unregistered", 413: "PayloadTooLarge",
	429: "TooManyRequests", 500: "InternalServerError", 503: "ServiceUnavailable",
}

func (a *APNs) handle(r *request) response {
	token := strings.TrimPrefix(r.path, "/3/device/")
	a.try(token)
	res := a.judge(r, token)
	res.delay = a.play.Latency
	if res.commit == nil {
		status := res.status
		res.commit = func() { a.answer(status, nil) }
	}
	return res
}

func (a *APNs) judge(r *request, token string) response {
	if reason, status := a.refuse(r, token); status != 0 {
		return apnsError(status, reason, 0, nil)
	}
	if f := a.play.fault(token); f != nil {
		reason := f.Reason
		if reason == "" {
			reason = apnsReasons[f.Status]
		}
		var ts int64
		if f.Status == http.StatusGone {
			ts = time.Now().Add(-f.Age).UnixMilli()
		}
		res := apnsError(f.Status, reason, ts, f.headers())
		res.hang = f.Status == 0
		return res
	}
	p := &Push{Token: token, Path: r.path, Header: r.header, Body: r.body}
	return response{status: 200, header: map[string]string{"apns-id": "00000000-0000-4000-8000-000000000000"},
		commit: func() { a.deliver(p) }}
}

// deliver hands a message to its device, or keeps it, the newest only, for one that is off.
func (a *APNs) deliver(p *Push) {
	a.mu.Lock()
	if _, off := a.offline[p.Token]; off {
		a.offline[p.Token] = p
	}
	a.mu.Unlock()
	a.answer(200, p)
}

// SwitchOff makes a device unreachable.
func (a *APNs) SwitchOff(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.offline == nil {
		a.offline = make(map[string]*Push)
	}
	a.offline[token] = nil
}

// SwitchOn makes it reachable again and returns what it then receives, nil if nothing.
func (a *APNs) SwitchOn(token string) *Push {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.offline[token]
	delete(a.offline, token)
	return p
}

// refuse applies Apple's rules in the order its service reports them; status 0 means acceptable.
func (a *APNs) refuse(r *request, token string) (reason string, status int) {
	if r.method != http.MethodPost {
		return "MethodNotAllowed", http.StatusMethodNotAllowed
	}
	if !strings.HasPrefix(r.path, "/3/device/") || strings.Contains(token, "/") {
		return "BadPath", http.StatusNotFound
	}
	if token == "" {
		return "MissingDeviceToken", http.StatusBadRequest
	}
	if reason, status := a.refuseAuth(r); status != 0 {
		return reason, status
	}
	return a.refuseShape(r)
}

func (a *APNs) refuseAuth(r *request) (string, int) {
	if certs := r.peer.PeerCertificates; len(certs) > 0 {
		if string(certs[0].Raw) != string(a.clientCert) {
			return "BadCertificate", http.StatusForbidden
		}
		return "", 0
	}
	auth, ok := strings.CutPrefix(r.header.Get("Authorization"), "bearer ")
	if !ok {
		return "MissingProviderToken", http.StatusForbidden
	}
	now := time.Now()
	if auth != r.conn.bearer { // verifying once per token is enough, as the vendor does too
		t, err := parseJWT(auth, a.key)
		if err != nil || t.header.Kid != a.keyID || t.claims.Iss != a.teamID {
			return "InvalidProviderToken", http.StatusForbidden
		}
		if !t.fresh(now, apnsTokenLife) {
			return "ExpiredProviderToken", http.StatusForbidden
		}
		if r.conn.bearer != "" && now.Sub(r.conn.since) < apnsTokenMinChange {
			return "TooManyProviderTokenUpdates", http.StatusTooManyRequests
		}
		r.conn.bearer, r.conn.since = auth, time.Unix(t.claims.Iat, 0)
	}
	if now.Sub(r.conn.since) > apnsTokenLife {
		return "ExpiredProviderToken", http.StatusForbidden
	}
	return "", 0
}

func (a *APNs) refuseShape(r *request) (string, int) {
	h := r.header
	kind := h.Get("apns-push-type")
	topic := strings.TrimSuffix(h.Get("apns-topic"), ".voip")
	switch {
	case topic == "":
		return "MissingTopic", http.StatusBadRequest
	case !a.topics[topic]:
		return "TopicDisallowed", http.StatusBadRequest
	case kind != "alert" && kind != "background" && kind != "voip":
		return "InvalidPushType", http.StatusBadRequest
	case (kind == "voip") != strings.HasSuffix(h.Get("apns-topic"), ".voip"):
		return "TopicDisallowed", http.StatusBadRequest
	case len(h.Get("apns-collapse-id")) > apnsMaxCollapse:
		return "BadCollapseId", http.StatusBadRequest
	}
	switch p := h.Get("apns-priority"); {
	case p != "" && p != "10" && p != "5" && p != "1", kind == "background" && p != "5":
		return "BadPriority", http.StatusBadRequest
	}
	if e := h.Get("apns-expiration"); e != "" {
		if _, err := strconv.ParseUint(e, 10, 63); err != nil {
			return "BadExpirationDate", http.StatusBadRequest
		}
	}
	return refusePayload(r.body, kind)
}

func refusePayload(body []byte, kind string) (string, int) {
	limit := apnsMaxPayload
	if kind == "voip" {
		limit = apnsMaxVoIP
	}
	if len(body) > limit {
		return "PayloadTooLarge", http.StatusRequestEntityTooLarge
	}
	var payload struct {
		APS *struct {
			Alert            json.RawMessage `json:"alert"`
			ContentAvailable int             `json:"content-available"`
			MutableContent   int             `json:"mutable-content"`
		} `json:"aps"`
	}
	if len(body) == 0 || json.Unmarshal(body, &payload) != nil || payload.APS == nil {
		return "PayloadEmpty", http.StatusBadRequest
	}
	if kind == "background" && (payload.APS.ContentAvailable != 1 || payload.APS.Alert != nil) {
		return "InvalidPushType", http.StatusBadRequest
	}
	return "", 0
}

func apnsError(status int, reason string, timestamp int64, header map[string]string) response {
	body := fmt.Sprintf(`{"reason":%q}`, reason)
	if timestamp != 0 {
		body = fmt.Sprintf(`{"reason":%q,"timestamp":%d}`, reason, timestamp)
	}
	return response{status: status, body: []byte(body), header: header}
}
