package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/push/fake"
)

// TestRecordedRequestsAreDelivered posts every recorded request of three upstream versions, with upstream's headers,
// and expects every message to reach a simulated vendor that enforces the real one's rules.
func TestRecordedRequestsAreDelivered(t *testing.T) {
	cfg := testConfig(t)
	cfg.APNs.CallGuard, cfg.APNs.Topic = 0, "com.x" // one more app that the simulator knows
	cfg.Queue.NormalPerMinute, cfg.Queue.UrgentPerMinute = 0, 0
	g := start(t, cfg)
	n := 0
	for _, r := range gatewayRequests(t) {
		body := freshen(t, r.body)
		status, answer := g.post("/api/push", body, "User-Agent", "RESTinio client", "Accept", "*/*",
			"Content-Type", "application/json", "Connection", "close")
		if status != 200 || answer != "{\"success\":\"ok\",\"counts\":1,\"logs\":[]}\n" && answer != `{"success":"ok","counts":1,"logs":[]}` {
			t.Errorf("%s %s: %d %s", r.version, r.event, status, answer)
		}
		n++
	}
	sim := g.senders.sim
	delivered := func() (n int) {
		reg, err := g.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range reg {
			if f.GetName() != "push_messages_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "status" && (l.GetValue() == "delivered" || l.GetValue() == "merged") {
						n += int(m.GetCounter().GetValue())
					}
				}
			}
		}
		return n
	}
	eventually(t, fmt.Sprintf("all %d delivered; FCM %v, APNs %v", n, sim.FCM.Answers(), sim.APNs.Answers()), func() bool { return delivered() == n })
	for _, answers := range []map[int]int{sim.FCM.Answers(), sim.APNs.Answers()} {
		if len(answers) != 1 || answers[200] == 0 {
			t.Errorf("answers of a vendor: %v", answers)
		}
	}
}

// freshen moves a recorded request's expiration from the day of recording to now.
func freshen(t *testing.T, body string) string {
	var r map[string]any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	for _, n := range r["notifications"].([]any) {
		if n := n.(map[string]any); n["expiration"] != nil {
			n["expiration"] = time.Now().Add(24 * time.Hour).Unix()
		}
	}
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestDistributorInTheBox sends through the gateway to an endpoint of its own distributor, which the rules for
// strangers' endpoints would refuse.
func TestDistributorInTheBox(t *testing.T) {
	cfg := testConfig(t)
	cfg.Provider = "real"
	cfg.Distributor.Enabled, cfg.Distributor.Listen, cfg.Distributor.State = true, "127.0.0.1:0", t.TempDir()
	cfg.Distributor.URL = "http://192.168.7.1:8089"
	g := start(t, cfg)
	sub, err := fake.NewSubscription(cfg.Distributor.URL + "/upHome?up=1")
	if err != nil {
		t.Fatal(err)
	}
	_, answer := g.post("/v1/pushes", batch(
		`{"platform":"unifiedpush","token":"`+sub.Endpoint+`","topic":"`+sub.Topic()+`","data":`+hello+`,"priority":"high"}`,
		`{"platform":"unifiedpush","token":"http://192.168.7.2:8089/upAway?up=1","data":`+hello+`,"priority":"high"}`))
	if !strings.Contains(answer, `[{"status":"delivered","reason":"ok","attempts":1},{"status":"invalid","reason":"token"}]`) {
		t.Errorf("answer %s", answer)
	}
	res, err := http.Get("http://" + g.DistributorAddr().String() + "/upHome/json?poll=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var e struct {
		Message, Encoding string
	}
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil || e.Encoding != "base64" {
		t.Fatalf("%+v %v", e, err)
	}
	var raw []byte
	if err := json.Unmarshal([]byte(`"`+e.Message+`"`), &raw); err != nil {
		t.Fatal(err)
	}
	if plain, err := sub.Decrypt(raw); err != nil || !bytes.Contains(plain, []byte(`"key":"39b4be4d`)) {
		t.Errorf("decrypted to %s, %v", plain, err)
	}
}

func TestNotConfigured(t *testing.T) {
	cfg := testConfig(t)
	cfg.Provider, cfg.UnifiedPush.Enabled = "real", false
	g := start(t, cfg)
	_, answer := g.post("/v1/pushes", batch(`{"platform":"android","token":"a","data":{}}`))
	if !strings.Contains(answer, `{"status":"refused","reason":"platform not configured"}`) {
		t.Errorf("answer %s", answer)
	}
	status, answer := g.post("/api/push", `{"notifications":[{"platform":2,"tokens":["SECRET"]}]}`)
	if status != 200 || strings.Contains(answer, "SECRET") || !strings.Contains(answer, "platform not configured") {
		t.Errorf("%d %s", status, answer)
	}
	if status, _ := g.get("/v1/vapid"); status != 404 {
		t.Errorf("vapid: %d", status)
	}
}

func TestVAPIDKeyIsKept(t *testing.T) {
	cfg := testConfig(t)
	g := start(t, cfg)
	_, first := g.get("/v1/vapid")
	g.stop()
	g = start(t, cfg)
	if _, second := g.get("/v1/vapid"); first != second || !strings.Contains(first, `"public_key":"B`) {
		t.Errorf("key %s, then %s", first, second)
	}
	info, err := os.Stat(cfg.UnifiedPush.VAPIDKeyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", info.Mode(), err)
	}
}

func TestDrainOnShutdown(t *testing.T) {
	cfg := testConfig(t)
	cfg.Queue.Window = time.Minute
	g := start(t, cfg)
	for i := range 50 {
		if status, answer := g.post("/api/push", fmt.Sprintf(`{"notifications":[{"platform":2,"tokens":["t%d"],"data":%s}]}`, i, hello)); status != 200 {
			t.Fatal(answer)
		}
	}
	sim := g.senders.sim
	g.stop()
	if n := sim.FCM.Answers()[200]; n < 50 {
		t.Errorf("%d of 50 sent before the end", n)
	}
}

func TestTakenPort(t *testing.T) {
	g := start(t, testConfig(t))
	cfg := testConfig(t)
	cfg.Listen = g.Addr().String()
	if _, err := New(cfg, Deps{}); err == nil {
		t.Error("two gateways on one port")
	}
}
