package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/jirani/jirani/push/provider"
)

// classify reads an answer (docs/protocols/dhtproxy.md §14.2). The body decides where Google gives one status for
// several things.
func classify(status int, h http.Header, body []byte, now time.Time) provider.Outcome {
	if status/100 == 2 {
		return provider.Accepted(status)
	}
	out := provider.Outcome{Verdict: provider.DropMessage, Reason: provider.ReasonUnexpected, Status: status,
		After: provider.RetryAfter(h, now)}
	e := parseError(body)
	switch {
	case e.code == "UNREGISTERED":
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonUnregistered
	case e.code == "SENDER_ID_MISMATCH":
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonMismatch
	case status == http.StatusBadRequest && e.code == "INVALID_ARGUMENT" && strings.Contains(e.message, "registration token"):
		out.Verdict, out.Reason = provider.DropToken, provider.ReasonBadToken
	case status == http.StatusBadRequest:
		out.Reason = provider.ReasonPayload
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		// 403 and 404 without an FCM code are about the project or the interface, not about the device.
		out.Verdict, out.Reason = provider.Refused, provider.ReasonAuth
	case status == http.StatusTooManyRequests:
		out.Verdict, out.Reason, out.Scope = provider.Retry, provider.ReasonRate, provider.ScopeHost
		if e.device {
			out.Scope = provider.ScopeToken
		}
		if out.After == 0 {
			out.After = quotaWait
		}
	case status >= 500:
		out.Verdict, out.Reason = provider.Retry, provider.ReasonServer
		out.After = max(out.After, serverWait)
	}
	return out
}

// fcmError is what matters of Google's error body.
type fcmError struct {
	code    string // FcmError.errorCode, "" if none
	message string
	device  bool // the quota that ran out is the device's
}

func parseError(body []byte) fcmError {
	var b struct {
		Error struct {
			Message string `json:"message"`
			Details []struct {
				Type       string `json:"@type"`
				ErrorCode  string `json:"errorCode"`
				Violations []struct {
					Subject     string `json:"subject"`
					Description string `json:"description"`
				} `json:"violations"`
			} `json:"details"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil {
		return fcmError{}
	}
	e := fcmError{message: b.Error.Message, device: strings.Contains(strings.ToLower(b.Error.Message), "device")}
	for _, d := range b.Error.Details {
		if strings.HasSuffix(d.Type, "FcmError") {
			e.code = d.ErrorCode
		}
		for _, v := range d.Violations {
			if strings.HasPrefix(v.Subject, "device:") {
				e.device = true
			}
		}
	}
	return e
}

// tokenOutcome classifies a failed exchange for an access token: refused credentials are for a person to mend,
// anything else passes.
func tokenOutcome(ctx context.Context, err error) provider.Outcome {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 &&
		refused.Response.StatusCode != http.StatusTooManyRequests {
		return provider.Outcome{Verdict: provider.Refused, Reason: provider.ReasonAuth, Status: refused.Response.StatusCode}
	}
	return networkOutcome(ctx)
}

func networkOutcome(ctx context.Context) provider.Outcome {
	reason := provider.ReasonNetwork
	if ctx.Err() != nil {
		reason = provider.ReasonTimeout
	}
	return provider.Outcome{Verdict: provider.Retry, Reason: reason}
}
