package apns

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/jirani/jirani/push/provider"
)

// answer is the body of a refusal.
type answer struct {
	Reason    string `json:"reason"`
	Timestamp int64  `json:"timestamp"` // ms; with 410: when the device was last known to be gone
}

func parseAnswer(raw []byte) (a answer) {
	if json.Unmarshal(raw, &a) != nil {
		return answer{}
	}
	return a
}

// classify reads an answer (docs/protocols/dhtproxy.md §14.3).
func classify(status int, h http.Header, a answer, now time.Time) provider.Outcome {
	out := provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonUnexpected, Status: status,
		After: provider.RetryAfter(h, now)}
	switch {
	case status == http.StatusOK:
		return provider.Accepted(status)
	case status == http.StatusGone: // Unregistered, ExpiredToken
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonUnregistered
		if a.Timestamp > 0 {
			out.DeadSince = time.UnixMilli(a.Timestamp)
		}
	case a.Reason == "BadDeviceToken" || a.Reason == "MissingDeviceToken":
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonBadToken
	case a.Reason == "DeviceTokenNotForTopic" || a.Reason == "TopicDisallowed" || a.Reason == "MissingTopic":
		// The bundle id is wrong, and so is ours as likely as the client's: the token may be good for another.
		out.Reason = provider.ReasonMismatch
	case status == http.StatusRequestEntityTooLarge:
		out.Reason = provider.ReasonTooLarge
	case status == http.StatusBadRequest:
		out.Reason = provider.ReasonPayload
	case status == http.StatusForbidden:
		out.Verdict, out.Reason = provider.Refused, provider.ReasonAuth
	case a.Reason == "TooManyProviderTokenUpdates":
		out.Verdict, out.Reason, out.Scope = provider.Retry, provider.ReasonRate, provider.ScopeHost
	case status == http.StatusTooManyRequests:
		out.Verdict, out.Reason, out.Scope = provider.Retry, provider.ReasonRate, provider.ScopeToken
	case status >= 500:
		out.Verdict, out.Reason = provider.Retry, provider.ReasonServer
	}
	return out
}
