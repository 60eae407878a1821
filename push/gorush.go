package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// The gorush dialect, as far as upstream's DHT proxies of all versions speak it (docs/protocols/dhtproxy.md §8.3):
//
//	platform     1 iOS, 2 Android
//	tokens       the devices
//	data         the hint
//	priority     "high" or "normal"; Android since 3.3 in android.priority
//	time_to_live seconds; since 3.3 android.ttl, "86400s"; iOS: expiration, Unix seconds
//	topic        bundle id; iOS only
//	alert, content_available, mutable_content, push_type, collapse_id, development: iOS
//
// gorush itself ignores time_to_live today, and so lets messages of old proxies live for four weeks; here it counts.
// Members that are not listed are ignored. On Android all messages are data messages: alert, title and message are
// not shown.

// errGorush is wrapped by every error of parseGorush.
var errGorush = errors.New("push: malformed notification")

// Limits of one request in either dialect.
const (
	maxRequest  = 4 << 20 // bytes
	maxMessages = 1000    // device messages
)

type gorushRequest struct {
	Notifications []gorushNotification `json:"notifications"`
}

type gorushNotification struct {
	Tokens           []string        `json:"tokens"`
	Platform         int             `json:"platform"`
	Topic            string          `json:"topic"`
	Priority         string          `json:"priority"`
	Data             json.RawMessage `json:"data"`
	TimeToLive       *uint32         `json:"time_to_live"`
	Expiration       *int64          `json:"expiration"`
	Title            string          `json:"title"`
	Alert            json.RawMessage `json:"alert"`
	ContentAvailable bool            `json:"content_available"`
	MutableContent   bool            `json:"mutable_content"`
	PushType         string          `json:"push_type"`
	CollapseID       string          `json:"collapse_id"`
	CollapseKey      string          `json:"collapse_key"`
	Development      bool            `json:"development"`
	Android          struct {
		Priority    string `json:"priority"`
		TTL         string `json:"ttl"`
		CollapseKey string `json:"collapse_key"`
	} `json:"android"`
}

// parseGorush reads a request body into messages, one per token.
func parseGorush(body []byte, now time.Time) ([]*provider.Message, error) {
	var r gorushRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%w: not the JSON of a gorush request", errGorush)
	}
	if len(r.Notifications) == 0 {
		return nil, fmt.Errorf("%w: no notifications", errGorush)
	}
	var out []*provider.Message
	for i := range r.Notifications {
		n := &r.Notifications[i]
		if len(out)+len(n.Tokens) > maxMessages {
			return nil, fmt.Errorf("%w: more than %d tokens", errGorush, maxMessages)
		}
		m, err := n.message(now)
		if err != nil {
			return nil, fmt.Errorf("%w %d: %w", errGorush, i+1, err)
		}
		for _, t := range n.Tokens {
			if t == "" || len(t) > provider.MaxToken {
				return nil, fmt.Errorf("%w %d: token of %d bytes", errGorush, i+1, len(t))
			}
			one := *m
			one.Token = provider.PushToken(t)
			out = append(out, &one)
		}
	}
	return out, nil
}

// message is the notification without a token.
func (n *gorushNotification) message(now time.Time) (*provider.Message, error) {
	m := &provider.Message{CollapseID: n.CollapseID, Mutable: n.MutableContent}
	switch n.Platform {
	case 1:
		m.Platform, m.Topic, m.Sandbox = provider.IOS, n.Topic, n.Development
	case 2:
		m.Platform = provider.Android
		if m.CollapseID = n.Android.CollapseKey; m.CollapseID == "" {
			m.CollapseID = n.CollapseKey
		}
	default:
		return nil, fmt.Errorf("platform %d is neither 1 (iOS) nor 2 (Android)", n.Platform)
	}
	if n.Priority == "high" || strings.EqualFold(n.Android.Priority, "high") {
		m.Priority = provider.High
	}
	if len(n.Data) > 0 && string(n.Data) != "null" {
		data, err := provider.ParseData(n.Data)
		if err != nil {
			return nil, err
		}
		m.Data = data
	}
	if err := n.kind(m); err != nil {
		return nil, err
	}
	return m, n.life(m, now)
}

// kind reads what Apple calls the push type, and the alert.
func (n *gorushNotification) kind(m *provider.Message) error {
	m.Title = n.Title
	if len(n.Alert) > 0 && string(n.Alert) != "null" {
		var a struct{ Title, Body string }
		if json.Unmarshal(n.Alert, &a.Body) != nil && json.Unmarshal(n.Alert, &a) != nil {
			return errors.New("alert is neither a text nor an object")
		}
		if a.Title != "" {
			m.Title = a.Title
		}
		m.Body = a.Body
	}
	if n.PushType == "" {
		if n.ContentAvailable && m.Title == "" && m.Body == "" {
			m.Kind = provider.Background
		}
		return nil
	}
	kind, ok := provider.ParseKind(n.PushType)
	if !ok {
		return fmt.Errorf("push_type %q", n.PushType)
	}
	m.Kind = kind
	return nil
}

// life reads the deadline in whichever form it comes.
func (n *gorushNotification) life(m *provider.Message, now time.Time) error {
	switch {
	case n.Android.TTL != "":
		secs, err := strconv.ParseUint(strings.TrimSuffix(n.Android.TTL, "s"), 10, 31)
		if err != nil {
			return fmt.Errorf("android.ttl %q", n.Android.TTL)
		}
		m.ExpiresAt = now.Add(time.Duration(secs) * time.Second)
	case n.Expiration != nil:
		m.ExpiresAt = time.Unix(*n.Expiration, 0)
	case n.TimeToLive != nil:
		m.ExpiresAt = now.Add(time.Duration(*n.TimeToLive) * time.Second)
	default:
		return nil
	}
	m.TTLGiven = true
	return nil
}

// gorushAnswer is what gorush answers.
type gorushAnswer struct {
	Success string      `json:"success"`
	Counts  int         `json:"counts"`
	Logs    []gorushLog `json:"logs"`
}

// gorushLog is about a message that was not taken. Its token is the short hash.
type gorushLog struct {
	Type     string `json:"type"`
	Platform string `json:"platform"`
	Token    string `json:"token"`
	Message  string `json:"message"`
	Error    string `json:"error"`
}
