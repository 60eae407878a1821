// Package provider is the vocabulary between the push dispatcher and those who carry a push to a device.
//
// A push is a hint. For Jami it says "look at this InfoHash" and carries no content:
//
//	{"ids":"8","key":"39b4…4266","pt":"videoCall","s":"SESS0002","t":1795242961302,"to":"acct1"}
//
// (docs/protocols/dhtproxy.md §8.1). The value itself stays on the DHT until it expires, so a push that has
// outlived its value is worthless, and one that was lost is found again by the client's next look.
//
// A Message is one such hint on its way to one Target. A Provider tries to hand it over once and reports an
// Outcome, which says what the dispatcher must do next and nothing else: the dispatcher knows no vendor, the
// providers know no queue. PushToken, here and everywhere below push, is the device token of FCM or APNs or the
// endpoint URL of UnifiedPush; it is a secret, and prints as a short hash.
package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"
)

// Platform selects the provider. The numbers of the gorush dialect are another matter (see package push).
type Platform uint8

// Platforms.
const (
	Android     Platform = iota + 1 // Firebase Cloud Messaging
	IOS                             // Apple Push Notification service
	UnifiedPush                     // Web Push resource, RFC 8030
)

var platformNames = [...]string{Android: "android", IOS: "ios", UnifiedPush: "unifiedpush"}

// String returns the lower-case name used in the /v1 API.
func (p Platform) String() string {
	if int(p) < len(platformNames) && platformNames[p] != "" {
		return platformNames[p]
	}
	return fmt.Sprintf("platform(%d)", uint8(p))
}

// ParsePlatform is the inverse of String.
func ParsePlatform(s string) (Platform, bool) {
	for p, name := range platformNames {
		if name == s && name != "" {
			return Platform(p), true
		}
	}
	return 0, false
}

// Priority orders messages. A higher one overtakes, and is never displaced by, a lower one.
type Priority uint8

// Priorities. Call is not on any wire: it is a High message whose push types name a call, and exists because a
// ringing telephone must not wait behind chat.
const (
	Normal Priority = iota
	High
	Call
	Priorities = 3 // how many there are
)

var priorityNames = [Priorities]string{"normal", "high", "call"}

// String returns the name used in metrics and in the /v1 API.
func (p Priority) String() string { return priorityNames[min(p, Call)] }

// Urgent reports whether the wire's flag is "high".
func (p Priority) Urgent() bool { return p >= High }

// PushToken is the secret that addresses a device.
type PushToken string

// TokenHash identifies a PushToken in tables and logs: the first bytes of its SHA-256.
type TokenHash [16]byte

// Hash returns the token's hash.
func (t PushToken) Hash() TokenHash {
	sum := sha256.Sum256([]byte(t))
	return TokenHash(sum[:16])
}

// String returns a short hash; the token itself needs an explicit conversion.
func (t PushToken) String() string { return t.Hash().String() }

// GoString keeps %#v from printing the token.
func (t PushToken) GoString() string { return t.String() }

// LogValue keeps slog from printing the token.
func (t PushToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// String returns the eight hex digits that appear in logs.
func (h TokenHash) String() string { return hex.EncodeToString(h[:4]) }

// MaxToken bounds a PushToken in bytes: an UnifiedPush endpoint is at most 1000, an FCM token about 170.
const MaxToken = 1000

// Target is a device.
type Target struct {
	Platform Platform
	Token    PushToken
	// Topic is the app's bundle id for IOS ("" means the gateway's default); for UnifiedPush the subscription's
	// keys as "p256dh|auth" in base64url, or anything without a bar for a plain body (docs/protocols/dhtproxy.md
	// §8.4); unused for Android.
	Topic string
	// Sandbox selects Apple's development environment.
	Sandbox bool
}

// Kind is what Apple calls the push type.
type Kind uint8

// Kinds. They decide apns-push-type and the shape of the aps member; other platforms ignore them.
const (
	Alert      Kind = iota // shown, or handed to the app's notification extension first
	Background             // content-available, never shown
	VoIP                   // PushKit
)

var kindNames = [...]string{"alert", "background", "voip"}

// String returns the value of apns-push-type.
func (k Kind) String() string { return kindNames[min(int(k), len(kindNames)-1)] }

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, bool) {
	for k, name := range kindNames {
		if name == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// Message is one hint for one device. Providers must not change it.
type Message struct {
	Target
	Data     Data
	Priority Priority
	Kind     Kind
	// Title and Body of the alert; upstream's proxies send the title "hello", which the app's extension replaces.
	Title, Body string
	Mutable     bool // mutable-content: run the notification extension
	// CollapseID lets a newer message replace an older one that the provider still holds. "" for none.
	CollapseID string
	// ExpiresAt ends the message's life, in our queues and, as ttl or expiration, at the provider.
	ExpiresAt time.Time
	// TTLGiven says whether the sender asked for a life; when not, FCM is told none and uses its own.
	TTLGiven bool
	// RegisteredAt is when the device last confirmed its token, zero if unknown. A token reported dead before
	// then is alive again.
	RegisteredAt time.Time
}

// TTL is what is left of the message's life in whole seconds, rounded up, at least 0.
func (m *Message) TTL(now time.Time) int64 {
	left := m.ExpiresAt.Sub(now)
	return max(0, int64((left+time.Second-1)/time.Second))
}

// Provider hands messages to a vendor. Send blocks for one exchange, at most until ctx is done, and is called
// from many goroutines. It retries nothing, except an exchange that failed only because a credential it caches
// had run out.
type Provider interface {
	// Name is the provider's label in metrics: "fcm", "apns", "unifiedpush".
	Name() string
	// Host names whose fate the message shares: failures and pauses count per host. "" refuses the message.
	Host(m *Message) string
	Send(ctx context.Context, m *Message) Outcome
}
