package fcm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/push/provider"
)

func TestKeyFileErrors(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{"type":"authorized_user"}`, `{"type":"service_account"}`,
		`{"type":"service_account","project_id":"p/../q","private_key":"k","client_email":"e"}`,
		`{"type":"service_account","project_id":"p","private_key":"not PEM","client_email":"e"}`,
		`{"type":"service_account","project_id":"p","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n","client_email":"e"}`,
	} {
		path := filepath.Join(t.TempDir(), "key.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{ServiceAccountFile: path}); err == nil {
			t.Errorf("key file %q accepted", text)
		}
	}
	if _, err := New(Config{ServiceAccountFile: "testdata/none"}); err == nil {
		t.Error("a missing key file accepted")
	}
}

// google answers the token endpoint and remembers the paths of everything else.
type google struct{ paths []string }

func (g *google) RoundTrip(r *http.Request) (*http.Response, error) {
	body := `{"access_token":"a","token_type":"Bearer","expires_in":3600}`
	if strings.HasPrefix(r.URL.Path, "/v1/projects/") {
		g.paths, body = append(g.paths, r.URL.Path), "{}"
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body))}, nil
}

// TestReload: another key file serves what is sent next, and one that cannot be read leaves the old in force.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.json")
	write := func(project string) {
		t.Helper()
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file, err := json.Marshal(map[string]string{"type": "service_account", "project_id": project, "client_email": "e",
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	g := &google{}
	p, err := New(Config{ServiceAccountFile: path, Transport: g, TokenTransport: g})
	if err != nil {
		t.Fatal(err)
	}
	m := &provider.Message{Target: provider.Target{Token: "t"}}
	p.Send(t.Context(), m)
	write("two")
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	p.Send(t.Context(), m)
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.Reload() == nil {
		t.Error("junk was loaded")
	}
	p.Send(t.Context(), m)
	if got := strings.Join(g.paths, " "); got != "/v1/projects/one/messages:send /v1/projects/two/messages:send /v1/projects/two/messages:send" {
		t.Errorf("sent to %s", got)
	}
}

func TestClassify(t *testing.T) {
	now := time.Unix(1795242961, 0)
	fcmBody := func(code string) string {
		return `{"error":{"message":"x","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + code + `"}]}}`
	}
	device := `{"error":{"message":"x","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"device:abc"}]},{"@type":"x/FcmError","errorCode":"QUOTA_EXCEEDED"}]}}`
	for _, tc := range []struct {
		status  int
		body    string
		verdict provider.Verdict
		reason  provider.Reason
		scope   provider.Scope
		after   time.Duration
	}{
		{200, `{}`, provider.Delivered, provider.ReasonOK, 0, 0},
		{404, fcmBody("UNREGISTERED"), provider.DropToken, provider.ReasonUnregistered, 0, 0},
		{404, `<html>`, provider.Refused, provider.ReasonAuth, 0, 0},
		{403, fcmBody("SENDER_ID_MISMATCH"), provider.DropToken, provider.ReasonMismatch, 0, 0},
		{403, `{}`, provider.Refused, provider.ReasonAuth, 0, 0},
		{401, fcmBody("THIRD_PARTY_AUTH_ERROR"), provider.Refused, provider.ReasonAuth, 0, 0},
		{400, fcmBody("INVALID_ARGUMENT"), provider.DropMessage, provider.ReasonPayload, 0, 0},
		{429, fcmBody("QUOTA_EXCEEDED"), provider.Retry, provider.ReasonRate, provider.ScopeHost, time.Minute},
		{429, device, provider.Retry, provider.ReasonRate, provider.ScopeToken, time.Minute},
		{500, ``, provider.Retry, provider.ReasonServer, 0, 10 * time.Second},
		{503, fcmBody("UNAVAILABLE"), provider.Retry, provider.ReasonServer, 0, 10 * time.Second},
		{302, ``, provider.DropMessage, provider.ReasonUnexpected, 0, 0},
	} {
		out := classify(tc.status, http.Header{}, []byte(tc.body), now)
		if out.Verdict != tc.verdict || out.Reason != tc.reason || out.Scope != tc.scope || out.After != tc.after {
			t.Errorf("%d %s: %+v", tc.status, tc.body, out)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(404, []byte(`{"error":{"code":404,"message":"m","status":"NOT_FOUND","details":[{"@type":"x.FcmError","errorCode":"UNREGISTERED"}]}}`))
	f.Add(429, []byte(`{"error":{"details":[{"violations":[{"subject":"device:x"}]}]}}`))
	now := time.Unix(1795242961, 0)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		out := classify(status, http.Header{}, body, now)
		if (out.Verdict == provider.Delivered) != (status/100 == 2) {
			t.Errorf("%d is %v", status, out.Verdict)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"key":"k","from":"x","google.c":1,"t":5,"o":{"a":[1,"b"]}}`), "token", "c")
	f.Fuzz(func(t *testing.T, data []byte, token, collapse string) {
		d, err := provider.ParseData(data)
		if err != nil {
			return
		}
		raw := AppendMessage(nil, &provider.Message{Target: provider.Target{Token: provider.PushToken(token)}, Data: d,
			CollapseID: collapse, TTLGiven: true}, time.Unix(1795242961, 0))
		var m struct {
			Message struct {
				Data map[string]string
			}
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		for name := range m.Message.Data {
			if reserved(name) || strings.HasPrefix(name, "google") {
				t.Errorf("reserved key %q sent", name)
			}
		}
	})
}
