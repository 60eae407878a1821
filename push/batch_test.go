package push

import (
	"strings"
	"testing"

	"github.com/jirani/jirani/push/fake"
)

func TestBatch(t *testing.T) {
	cfg := testConfig(t)
	cfg.Fake.Faults = []fake.Fault{{Token: "gone", Status: 410}, {Token: "big", Status: 413}}
	g := start(t, cfg)
	sub, err := fake.NewSubscription("https://push.example/upABC")
	if err != nil {
		t.Fatal(err)
	}
	status, answer := g.post("/v1/pushes", batch(
		`{"platform":"android","token":"a","data":`+hello+`,"priority":"high"}`,
		`{"platform":"ios","token":"b","topic":"cx.ring.test","data":`+hello+`}`,
		`{"platform":"unifiedpush","token":"`+sub.Endpoint+`","topic":"`+sub.Topic()+`","data":`+hello+`,"priority":"high"}`,
		`{"platform":"ios","token":"gone","topic":"cx.ring.test","data":`+hello+`,"priority":"high"}`,
		`{"platform":"unifiedpush","token":"https://push.example/big","data":`+hello+`,"priority":"high"}`,
		`{"platform":"palm","token":"x","data":{}}`,
		`{"platform":"android","token":"x","data":[]}`,
		`{"platform":"unifiedpush","token":"ftp://push.example/x","data":{}}`,
		`{"platform":"android","token":"x","data":{},"expires_at":"2020-01-01T00:00:00Z"}`,
	))
	want := `{"results":[{"status":"delivered","reason":"ok","attempts":1},{"status":"delivered","reason":"ok","attempts":1},` +
		`{"status":"delivered","reason":"ok","attempts":1},{"status":"dead_token","reason":"unregistered","attempts":1},` +
		`{"status":"dropped","reason":"too_large","attempts":1},{"status":"invalid","reason":"platform"},` +
		`{"status":"invalid","reason":"data"},{"status":"invalid","reason":"token"},{"status":"expired"}]}`
	if strings.TrimSpace(answer) != want || status != 200 {
		t.Errorf("%d\ngot  %s\nwant %s", status, answer, want)
	}
	for body, want := range map[string]int{"": 400, "{}": 400, `{"pushes":[{}],"wait_seconds":99}`: 400, `{"pushes":[{}]}`: 200} {
		if status, answer := g.post("/v1/pushes", body); status != want {
			t.Errorf("%q: %d %s", body, status, answer)
		}
	}
	if status, _ := g.post("/v1/pushes", strings.Repeat(" ", maxRequest+1)); status != 413 {
		t.Errorf("over 4 MiB: %d", status)
	}
}

func TestDryRun(t *testing.T) {
	g := start(t, testConfig(t))
	_, answer := g.post("/v1/pushes", `{"dry_run":true,"pushes":[{"platform":"android","token":"a","data":{}},{"platform":"unifiedpush","token":"http://x","data":{}}]}`)
	if !strings.Contains(answer, `[{"status":"valid"},{"status":"invalid","reason":"token"}]`) {
		t.Errorf("answer %s", answer)
	}
	cfg := testConfig(t)
	cfg.DryRun = true
	g = start(t, cfg)
	_, answer = g.post("/v1/pushes", batch(`{"platform":"android","token":"a","data":{},"priority":"high"}`))
	if !strings.Contains(answer, `"delivered"`) || len(g.senders.sim.FCM.Answers()) != 0 {
		t.Errorf("answer %s, vendor's %v", answer, g.senders.sim.FCM.Answers())
	}
}
