package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

// Batch is the body of POST /v1/pushes.
type Batch struct {
	Pushes []Push `json:"pushes"`
	// DryRun checks every push as if it were sent.
	DryRun bool `json:"dry_run,omitempty"`
	// WaitSeconds is how long the answer may wait for the pushes to end, 0–30; those that have not ended by then
	// are "queued".
	WaitSeconds float64 `json:"wait_seconds,omitempty"`
}

// Push is one message for one device.
type Push struct {
	Platform     string          `json:"platform"`                  // android, ios or unifiedpush
	Token        string          `json:"token"`                     // device token, or endpoint URL
	Topic        string          `json:"topic,omitempty"`           // ios: bundle id; unifiedpush: "p256dh|auth"
	Sandbox      bool            `json:"sandbox,omitempty"`         // ios: development environment
	Data         json.RawMessage `json:"data"`                      // an object, at most 4096 bytes
	Priority     string          `json:"priority,omitempty"`        // high or normal (default)
	Kind         string          `json:"kind,omitempty"`            // ios: alert (default), background or voip
	Title        string          `json:"title,omitempty"`           // ios: of the alert
	Body         string          `json:"body,omitempty"`            // ios: of the alert
	Mutable      bool            `json:"mutable_content,omitempty"` // ios: run the notification extension
	CollapseID   string          `json:"collapse_id,omitempty"`     // replaces a message of the same id that the provider still keeps
	ExpiresAt    *time.Time      `json:"expires_at,omitempty"`      // end of the message's life
	RegisteredAt *time.Time      `json:"registered_at,omitempty"`   // when the device last confirmed its token
}

// BatchResult is the answer to a Batch: a result for each push, in order.
type BatchResult struct {
	Results []PushResult `json:"results"`
}

// PushResult is what became of a push.
type PushResult struct {
	// Status is queued; delivered, merged, dropped, dead_token, expired, shed or shutdown when it has ended; valid
	// after a dry run; invalid or refused when it was not taken.
	Status   string `json:"status"`
	Reason   string `json:"reason,omitempty"` // provider's last word, or what is wrong
	Attempts int    `json:"attempts,omitempty"`
}

const maxWait = 30 // seconds

// parseBatch reads a request body. Errors in single pushes are left to Push.message.
func parseBatch(raw []byte) (*Batch, error) {
	var b Batch
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, errors.New("not the JSON of a batch")
	}
	switch {
	case len(b.Pushes) == 0:
		return nil, errors.New("no pushes")
	case len(b.Pushes) > maxMessages:
		return nil, fmt.Errorf("more than %d pushes", maxMessages)
	case !(b.WaitSeconds >= 0 && b.WaitSeconds <= maxWait):
		return nil, fmt.Errorf("wait_seconds is not 0 to %d", maxWait)
	}
	return &b, nil
}

// message turns a push into the dispatcher's words.
func (p *Push) message() (*provider.Message, error) {
	platform, ok := provider.ParsePlatform(p.Platform)
	if !ok {
		return nil, errors.New("platform")
	}
	if p.Token == "" || len(p.Token) > provider.MaxToken {
		return nil, errors.New("token")
	}
	data, err := provider.ParseData(p.Data)
	if err != nil {
		return nil, errors.New("data")
	}
	m := &provider.Message{
		Target: provider.Target{Platform: platform, Token: provider.PushToken(p.Token), Topic: p.Topic, Sandbox: p.Sandbox},
		Data:   data, Title: p.Title, Body: p.Body, Mutable: p.Mutable, CollapseID: p.CollapseID,
	}
	switch p.Priority {
	case "high":
		m.Priority = provider.High
	case "", "normal":
	default:
		return nil, errors.New("priority")
	}
	if p.Kind != "" {
		if m.Kind, ok = provider.ParseKind(p.Kind); !ok {
			return nil, errors.New("kind")
		}
	}
	if len(p.CollapseID) > 64 || len(p.Title)+len(p.Body) > 1024 || len(p.Topic) > 256 {
		return nil, errors.New("collapse_id, title, body or topic too long")
	}
	if p.ExpiresAt != nil {
		m.ExpiresAt, m.TTLGiven = *p.ExpiresAt, true
	}
	if p.RegisteredAt != nil {
		m.RegisteredAt = *p.RegisteredAt
	}
	return m, nil
}

// notTaken is the result for an error of Submit.
func notTaken(err error) PushResult {
	switch {
	case errors.Is(err, dispatch.ErrDeadToken):
		return PushResult{Status: dispatch.Dead.String(), Reason: string(provider.ReasonUnregistered)}
	case errors.Is(err, dispatch.ErrExpired):
		return PushResult{Status: dispatch.Expired.String()}
	case errors.Is(err, dispatch.ErrTarget):
		return PushResult{Status: "invalid", Reason: "token"}
	case errors.Is(err, dispatch.ErrNoLane):
		return PushResult{Status: "refused", Reason: "platform not configured"}
	case errors.Is(err, dispatch.ErrFull):
		return PushResult{Status: "refused", Reason: "queue full"}
	default:
		return PushResult{Status: "refused", Reason: "shutting down"}
	}
}

func ended(r dispatch.Result) PushResult {
	return PushResult{Status: r.Status.String(), Reason: string(r.Reason), Attempts: r.Attempts}
}
