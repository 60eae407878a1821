package push

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/safedial"
)

// webhook POSTs deaths to the operator's URL, in the order of their cursors:
//
//	webhook-id         unique per message, the same when it is repeated
//	webhook-timestamp  Unix seconds
//	webhook-signature  v1,<base64 of HMAC-SHA256(secret, id "." timestamp "." body)>
//
// as the Standard Webhooks specification has it. The body is that of GET /v1/dead-tokens. Anything but 2xx is tried
// again with growing pauses; what is dropped from the feedback meanwhile is not sent.
type webhook struct {
	url    string
	file   config.SecretFile
	feed   *feedback
	client *http.Client
	log    *slog.Logger
	secret atomic.Pointer[[]byte]
}

const (
	webhookBatch   = 500
	webhookTimeout = 10 * time.Second
	webhookPause   = time.Second // first pause after a failure; doubles
	webhookMax     = 5 * time.Minute
	minSecret      = 24
)

func newWebhook(c FeedbackConfig, feed *feedback, log *slog.Logger) (*webhook, error) {
	w := &webhook{url: c.WebhookURL, file: c.WebhookSecret, feed: feed, log: log,
		client: &http.Client{Timeout: webhookTimeout, CheckRedirect: safedial.NoRedirect}}
	return w, w.Reload()
}

// Reload reads the secret again.
func (w *webhook) Reload() error {
	text, err := w.file.Read()
	if err != nil {
		return fmt.Errorf("push: webhook secret: %w", err)
	}
	if len(text) < minSecret {
		return fmt.Errorf("push: webhook secret: under %d characters", minSecret)
	}
	secret := []byte(text)
	w.secret.Store(&secret)
	return nil
}

// run sends until ctx is done.
func (w *webhook) run(ctx context.Context) {
	cursor := ""
	for ctx.Err() == nil {
		batch, changed := w.feed.after(cursor, webhookBatch)
		if len(batch.DeadTokens) > 0 {
			w.deliver(ctx, batch)
			cursor = batch.Next
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// deliver repeats one batch until it is taken.
func (w *webhook) deliver(ctx context.Context, batch DeadTokens) {
	id := "msg_" + rand.Text()
	for pause := webhookPause; ; pause = min(2*pause, webhookMax) {
		err := w.post(ctx, id, batch)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.log.Warn("webhook not delivered", logging.KeyErr, err, logging.KeyCount, len(batch.DeadTokens))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + mathrand.N(pause/2)):
		}
	}
}

func (w *webhook) post(ctx context.Context, id string, batch DeadTokens) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("bad URL")
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", signWebhook(*w.secret.Load(), id, now, body))
	res, err := w.client.Do(req)
	if err != nil {
		return errors.New("no answer") // the client's error would repeat the URL, which may hold a password
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // so that the connection serves again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func signWebhook(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
