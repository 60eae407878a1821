package push

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

func TestDeadTokenFeedback(t *testing.T) {
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 10)
	var fails int
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if fails++; fails == 1 {
			w.WriteHeader(500)
			return
		}
		calls <- call{r.Header, body}
	}))
	defer hook.Close()
	cfg := testConfig(t)
	cfg.Fake.Faults = []fake.Fault{{Token: "gone", Status: 410}}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of thirty characters.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Feedback.WebhookURL, cfg.Feedback.WebhookSecret = hook.URL, config.SecretFile(secret)
	g := start(t, cfg)
	g.post("/v1/pushes", batch(
		`{"platform":"android","token":"gone-1","data":`+hello+`,"priority":"high"}`,
		`{"platform":"ios","token":"gone-2","topic":"cx.ring.test","data":`+hello+`,"priority":"high"}`))
	_, answer := g.get("/v1/dead-tokens")
	var page DeadTokens
	if err := json.Unmarshal([]byte(answer), &page); err != nil || len(page.DeadTokens) != 2 {
		t.Fatalf("%s, %v", answer, err)
	}
	got := map[string]string{}
	for _, d := range page.DeadTokens {
		got[d.Token] = d.Platform + " " + d.Reason
	}
	if got["gone-1"] != "android unregistered" || got["gone-2"] != "ios unregistered" {
		t.Errorf("feedback %v", got)
	}
	_, rest := g.get("/v1/dead-tokens?after=" + page.Next)
	if !strings.Contains(rest, `"dead_tokens":[]`) {
		t.Errorf("after the last: %s", rest)
	}
	if status, _ := g.get("/v1/dead-tokens?limit=0"); status != 400 {
		t.Errorf("limit 0: %d", status)
	}
	seen := 0
	for seen < 2 {
		select {
		case c := <-calls:
			var sec int64
			fmt.Sscan(c.header.Get("Webhook-Timestamp"), &sec)
			want := signWebhook([]byte("a secret of thirty characters."), c.header.Get("Webhook-Id"), time.Unix(sec, 0), c.body)
			if c.header.Get("Webhook-Signature") != want || c.header.Get("Webhook-Id") == "" {
				t.Errorf("webhook headers %v", c.header)
			}
			var p DeadTokens
			if err := json.Unmarshal(c.body, &p); err != nil {
				t.Fatal(err)
			}
			seen += len(p.DeadTokens)
		case <-time.After(10 * time.Second):
			t.Fatal("no webhook")
		}
	}
}

func death(token string) dispatch.Death {
	return dispatch.Death{Target: provider.Target{Platform: provider.IOS, Token: provider.PushToken(token)},
		Reason: provider.ReasonUnregistered, At: time.Unix(2, 0)}
}

func TestFeedbackRing(t *testing.T) {
	f := newFeedback(3, time.Unix(1, 0))
	for i := range 5 {
		f.add(death(fmt.Sprint("t", i)))
	}
	page, _ := f.after("", 2)
	rest, changed := f.after(page.Next, 10)
	var got []string
	for _, d := range append(page.DeadTokens, rest.DeadTokens...) {
		got = append(got, d.Token)
	}
	if fmt.Sprint(got) != "[t2 t3 t4]" {
		t.Errorf("kept %v", got)
	}
	if again, _ := f.after("other-2", 10); len(again.DeadTokens) != 3 {
		t.Errorf("cursor of an earlier process gave %d", len(again.DeadTokens))
	}
	f.add(death("t5"))
	<-changed
	if more, _ := f.after(rest.Next, 10); len(more.DeadTokens) != 1 || more.DeadTokens[0].Token != "t5" {
		t.Errorf("news %v", more)
	}
}
