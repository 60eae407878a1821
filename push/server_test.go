package push

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/push/fake"
)

// testConfig is a gateway on loopback with simulated providers.
func testConfig(t *testing.T) Config {
	t.Helper()
	c := Default()
	c.Listen, c.Provider = "127.0.0.1:0", "fake"
	c.Fake.Latency = time.Millisecond
	c.UnifiedPush.VAPIDKeyFile = filepath.Join(t.TempDir(), "vapid.pem")
	c.Queue.Window, c.Queue.Drain = 10*time.Millisecond, 3*time.Second
	return c
}

type gateway struct {
	*Server
	t    *testing.T
	url  string
	reg  *prometheus.Registry
	stop func()
}

func start(t *testing.T, cfg Config) *gateway {
	t.Helper()
	g := &gateway{t: t, reg: prometheus.NewRegistry()}
	s, err := New(cfg, Deps{Metrics: g.reg, Health: new(health.Checks)})
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ends with cancel
	g.url = "http://" + s.Addr().String()
	if cfg.TLS.Enabled() {
		g.url = "https://" + s.Addr().String()
	}
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) post(path, body string, header ...string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodPost, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return g.do(http.DefaultClient, req)
}

func (g *gateway) get(path string, header ...string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodGet, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return g.do(http.DefaultClient, req)
}

func (g *gateway) do(c *http.Client, req *http.Request) (int, string) {
	g.t.Helper()
	res, err := c.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

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

const hello = `{"key":"39b4be4d1013aebe6628b69ee7f487b9e31e4266","ids":"7","to":"acct1"}`

func batch(pushes ...string) string {
	return `{"wait_seconds":10,"pushes":[` + strings.Join(pushes, ",") + `]}`
}

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
	cfg.Feedback.WebhookURL, cfg.Feedback.WebhookSecret = hook.URL, secretFile(secret)
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

// clientCert is a certificate for a caller, signed by its own key.
func clientCert(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAuthorization(t *testing.T) {
	dir := t.TempDir()
	server, err := certs.SelfSigned(time.Now(), time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client := clientCert(t)
	cfg := testConfig(t)
	if cfg.TLS.CertFile, cfg.TLS.KeyFile, err = certs.WriteFiles(dir, server); err != nil {
		t.Fatal(err)
	}
	cfg.ClientCAFile = filepath.Join(dir, "clients.pem")
	tokens := filepath.Join(dir, "tokens")
	err = errors.Join(
		os.WriteFile(cfg.ClientCAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]}), 0o600),
		os.WriteFile(tokens, []byte("# proxies\nfirst-token-of-many # the first\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	cfg.TokensFile = secretFile(tokens)
	cfg.Compat.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	g := start(t, cfg)
	roots := x509.NewCertPool()
	leaf, _ := x509.ParseCertificate(server.Certificate[0])
	roots.AddCert(leaf)
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	mutual := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}}}
	defer plain.CloseIdleConnections()
	defer mutual.CloseIdleConnections()
	request := func(c *http.Client, path, token string) int {
		req, _ := http.NewRequest(http.MethodPost, g.url+path, bytes.NewReader([]byte(`{"notifications":[{"platform":2,"tokens":["t"]}],"pushes":[{}]}`)))
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		status, _ := g.do(c, req)
		return status
	}
	for _, path := range []string{"/api/push", "/v1/pushes"} {
		for _, tc := range []struct {
			name   string
			client *http.Client
			token  string
			want   int
		}{
			{"nothing", plain, "", 401},
			{"wrong token", plain, "first-token-of-some", 401},
			{"token", plain, "first-token-of-many", 200},
			{"certificate", mutual, "", 200},
		} {
			if got := request(tc.client, path, tc.token); got != tc.want {
				t.Errorf("%s with %s: %d, want %d", path, tc.name, got, tc.want)
			}
		}
	}
	if err := os.WriteFile(tokens, []byte("second-token-of-many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if a, b := request(plain, "/v1/pushes", "first-token-of-many"), request(plain, "/v1/pushes", "second-token-of-many"); a != 401 || b != 200 {
		t.Errorf("after reload: old token %d, new token %d", a, b)
	}
	if err := os.WriteFile(tokens, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if g.Reload() == nil || request(plain, "/v1/pushes", "second-token-of-many") != 200 {
		t.Error("a bad token file took effect")
	}
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
