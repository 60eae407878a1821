package push

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/fake"
)

// logged keeps a log.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// TestSecretsAreNotLogged sends through every provider, with every kind of trouble, at the most talkative level, and searches the whole
// log for what must not be there: device tokens and endpoints, subscription keys, content, bearer tokens, secrets.
func TestSecretsAreNotLogged(t *testing.T) {
	dir := t.TempDir()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer hook.Close()
	cfg := testConfig(t)
	cfg.Fake.Faults = []fake.Fault{{Token: "Gone", Status: 410}, {Token: "Busy", Status: 429}, {Token: "Sick", Status: 503}, {Token: "Mute"},
		{Token: "Large", Status: 413}, {Token: "Locked", Status: 403}, {Token: "Moved", Status: 307}}
	cfg.Queue.SendTimeout, cfg.Queue.Drain = 1e9, 0
	cfg.Distributor.Enabled, cfg.Distributor.Listen, cfg.Distributor.State = true, "127.0.0.1:0", dir
	cfg.Feedback.WebhookURL = strings.Replace(hook.URL, "http://", "http://user:SecretPassword@", 1)
	cfg.Feedback.WebhookSecret = config.SecretFile(filepath.Join(dir, "webhook"))
	cfg.TokensFile = config.SecretFile(filepath.Join(dir, "tokens"))
	for file, text := range map[string]string{"webhook": "SecretOfTheWebhook-0123456789", "tokens": "SecretBearer-0123456789"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &logged{}
	g := startLogging(t, cfg, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	sub, err := fake.NewSubscription("https://push.example/SecretEndpoint")
	if err != nil {
		t.Fatal(err)
	}
	const data = `{"key":"SecretContent","to":"a"}`
	bearer := []string{"Authorization", "Bearer SecretBearer-0123456789"}
	for _, trouble := range []string{"", "Gone", "Busy", "Sick", "Mute", "Large", "Locked", "Moved"} {
		g.post("/v1/pushes", `{"wait_seconds":0.2,"pushes":[`+
			`{"platform":"android","token":"SecretAndroid`+trouble+`","data":`+data+`,"priority":"high"},`+
			`{"platform":"ios","token":"SecretPhone`+trouble+`","topic":"cx.ring.test","data":`+data+`,"priority":"high"},`+
			`{"platform":"unifiedpush","token":"`+sub.Endpoint+trouble+`","topic":"`+sub.Topic()+`","data":`+data+`,"priority":"high"},`+
			`{"platform":"unifiedpush","token":"`+cfg.Distributor.URL+`/upSecretTopic?up=1","data":`+data+`,"priority":"high"},`+
			`{"platform":"unifiedpush","token":"http://127.0.0.1/SecretInside","data":`+data+`}]}`, bearer...)
		g.post("/api/push", `{"notifications":[{"platform":2,"tokens":["SecretAndroid`+trouble+`"],"data":`+data+`}]}`)
	}
	g.post("/v1/pushes", `{"pushes":[{"token":"SecretBroken`, bearer...)
	g.post("/v1/pushes", `{}`, "Authorization", "Bearer SecretGuess-0123456789")
	g.post("/api/push", `{"notifications":[{"platform":9,"tokens":["SecretBroken"]}]}`)
	if res, err := http.Post("http://"+g.DistributorAddr().String()+"/upSecretTopic", "text/plain", strings.NewReader("SecretBody")); err == nil {
		res.Body.Close()
	}
	eventually(t, "webhook fails", func() bool { return strings.Contains(log.String(), "webhook not delivered") })
	eventually(t, "token dead", func() bool { return strings.Contains(log.String(), "token dead") })
	g.stop()
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "Secret") || strings.Contains(line, sub.Topic()[:40]) {
			t.Errorf("logged: %s", line)
		}
	}
}
