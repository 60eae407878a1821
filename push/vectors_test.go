package push

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jirani/jirani/push/apns"
	"github.com/jirani/jirani/push/fcm"
	"github.com/jirani/jirani/push/provider"
)

// recorded is a request of an upstream proxy to its gateway.
type recorded struct {
	version, event, body string
}

// gatewayRequests reads all requests to /api/push of three versions of upstream.
func gatewayRequests(t testing.TB) (out []recorded) {
	t.Helper()
	type push struct {
		RequestLine string `json:"request_line"`
		Body        string
	}
	add := func(version, event string, list []push) {
		for _, p := range list {
			if strings.HasPrefix(p.RequestLine, "POST /api/push") {
				out = append(out, recorded{version, event, p.Body})
			}
		}
	}
	for _, v := range []string{"2.4.12", "3.0.1", "4.3.1"} {
		var f struct {
			Events []struct {
				Name   string
				Pushes []push
			}
		}
		readJSON(t, "testdata/push-"+v+".json", &f)
		for _, e := range f.Events {
			add(v, e.Name, e.Pushes)
		}
	}
	for _, name := range []string{"value-expiry-4.3.1", "timeouts-4.3.1"} {
		var f struct{ Pushes []push }
		readJSON(t, "testdata/"+name+".json", &f)
		add("4.3.1", name, f.Pushes)
	}
	return out
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// vendorBody is what reaches a vendor.
type vendorBody struct {
	Provider string
	Message  any
	Headers  map[string]string
	Payload  any
}

func vendorBodies(t testing.TB) (out []vendorBody) {
	var f struct {
		Items []vendorBody
	}
	readJSON(t, "testdata/provider-bodies.json", &f)
	return f.Items
}

// build makes the vendor's request for a message as of now.
func build(t testing.TB, m *provider.Message, now time.Time) vendorBody {
	t.Helper()
	var v vendorBody
	if m.Platform == provider.Android {
		v.Provider = "fcm-v1"
		var body struct{ Message any }
		if err := json.Unmarshal(fcm.AppendMessage(nil, m, now), &body); err != nil {
			t.Fatal(err)
		}
		v.Message = body.Message
		return v
	}
	v.Provider, v.Headers = "apns", map[string]string{}
	for name, values := range apns.Header(m, "") {
		if strings.HasPrefix(name, "Apns-") {
			v.Headers[strings.ToLower(name)] = values[0]
		}
	}
	if err := json.Unmarshal(apns.AppendPayload(nil, m), &v.Payload); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRecordedRequestsBecomeRightProviderCalls takes every recorded request of three upstream versions and compares
// what we would send with what gorush made of it. One difference is wanted: we honour the time_to_live of old
// proxies, which gorush ignores.
func TestRecordedRequestsBecomeRightProviderCalls(t *testing.T) {
	known := map[string]bool{}
	for _, v := range vendorBodies(t) {
		known[canonical(t, v)] = true
	}
	matched := map[string]bool{}
	requests := gatewayRequests(t)
	for _, r := range requests {
		now := sentAt(t, r.body)
		messages, err := parseGorush([]byte(r.body), now)
		if err != nil || len(messages) == 0 {
			t.Errorf("%s %s: %v", r.version, r.event, err)
			continue
		}
		for _, m := range messages {
			if m.ExpiresAt.IsZero() {
				m.ExpiresAt = now.Add(24 * time.Hour)
			}
			v := build(t, m, now)
			if strings.Contains(r.body, "time_to_live") {
				delete(v.Message.(map[string]any)["android"].(map[string]any), "ttl")
			}
			c := canonical(t, v)
			if known[c] {
				matched[c] = true
			} else if r.version != "3.0.1" && !strings.HasPrefix(r.event, "value-expiry") && !strings.HasPrefix(r.event, "timeouts") {
				t.Errorf("%s %s: gorush did not make\n%s", r.version, r.event, c)
			}
		}
	}
	for c := range known {
		if !matched[c] {
			t.Errorf("nothing of ours is\n%s", c)
		}
	}
	t.Logf("%d requests, %d of %d vendor bodies reproduced", len(requests), len(matched), len(known))
}

// sentAt is when a recorded request was sent, from its own times.
func sentAt(t testing.TB, body string) time.Time {
	var r struct {
		Notifications []struct {
			Expiration int64
			Data       struct{ T int64 }
		}
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	switch n := r.Notifications[0]; {
	case n.Expiration > 0:
		return time.Unix(n.Expiration-86400, 0)
	case n.Data.T > 0:
		return time.UnixMilli(n.Data.T)
	}
	return time.Unix(1795242957, 0)
}

func canonical(t testing.TB, v vendorBody) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseGorushRefuses(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat(`"t",`, maxMessages+1), ",")
	for _, body := range []string{
		``, `[]`, `{}`, `{"notifications":[]}`, `{"notifications":[{"platform":3,"tokens":["t"]}]}`,
		`{"notifications":[{"platform":2,"tokens":[""]}]}`,
		`{"notifications":[{"platform":2,"tokens":["` + strings.Repeat("x", 1001) + `"]}]}`,
		`{"notifications":[{"platform":2,"tokens":[` + many + `]}]}`,
		`{"notifications":[{"platform":2,"tokens":["t"],"data":[1]}]}`,
		`{"notifications":[{"platform":2,"tokens":["t"],"android":{"ttl":"soon"}}]}`,
		`{"notifications":[{"platform":1,"tokens":["t"],"push_type":"shout"}]}`,
		`{"notifications":[{"platform":1,"tokens":["t"],"alert":5}]}`,
	} {
		if m, err := parseGorush([]byte(body), time.Now()); err == nil {
			t.Errorf("parseGorush(%.60s) = %d messages", body, len(m))
		}
	}
}

func TestParseGorushForms(t *testing.T) {
	now := time.Unix(1795242957, 0)
	for body, want := range map[string]string{
		`{"platform":1,"alert":"text"}`:                                      "alert/normal//text/",
		`{"platform":1,"title":"T","alert":{"title":"A","body":"B"}}`:        "alert/normal/A/B/",
		`{"platform":1,"content_available":true}`:                            "background/normal///",
		`{"platform":1,"push_type":"voip","priority":"high","expiration":0}`: "voip/high///1970-01-01T00:00:00Z",
		`{"platform":2,"android":{"priority":"HIGH","ttl":"10s"}}`:           "alert/high///2026-11-21T06:36:07Z",
		`{"platform":2,"time_to_live":5}`:                                    "alert/normal///2026-11-21T06:36:02Z",
	} {
		m, err := parseGorush([]byte(`{"notifications":[`+strings.Replace(body, "{", `{"tokens":["t"],`, 1)+`]}`), now)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		at := ""
		if m[0].TTLGiven {
			at = m[0].ExpiresAt.UTC().Format(time.RFC3339)
		}
		got := fmt.Sprintf("%s/%s/%s/%s/%s", m[0].Kind, m[0].Priority, m[0].Title, m[0].Body, at)
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func FuzzGorush(f *testing.F) {
	for _, r := range gatewayRequests(f) {
		f.Add([]byte(r.body))
	}
	now := time.Unix(1795242957, 0)
	f.Fuzz(func(t *testing.T, body []byte) {
		messages, err := parseGorush(body, now)
		if err != nil {
			return
		}
		if len(messages) > maxMessages {
			t.Fatalf("%d messages", len(messages))
		}
		for _, m := range messages[:min(len(messages), 3)] {
			m.ExpiresAt = now.Add(time.Hour)
			v := build(t, m, now) // must be valid JSON whatever came in
			if m.Platform == provider.Android && v.Message == nil {
				t.Error("no FCM message")
			}
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`{"pushes":[{"platform":"ios","token":"t","data":{"key":"k"},"priority":"high","kind":"voip","expires_at":"2026-11-21T12:00:00Z"}],"wait_seconds":1.5}`))
	f.Add([]byte(`{"pushes":[{"platform":"unifiedpush","token":"https://x.example/up","topic":"a|b","data":{}}],"dry_run":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseBatch(body)
		if err != nil {
			return
		}
		for i := range b.Pushes {
			m, err := b.Pushes[i].message()
			if err != nil {
				continue
			}
			if len(m.Token) == 0 || len(m.Token) > provider.MaxToken || len(m.Data) > provider.MaxMembers {
				t.Errorf("let pass %+v", m)
			}
		}
	})
}

// TestUnifiedPushPlainBodies: the plain body is the data as the proxy would have sent it, byte for byte.
func TestUnifiedPushPlainBodies(t *testing.T) {
	var f struct {
		Events []struct {
			Name   string
			Pushes []struct {
				RequestLine string `json:"request_line"`
				Headers     [][2]string
				Body        string
			}
		}
	}
	readJSON(t, "testdata/push-4.3.1.json", &f)
	n := 0
	for _, e := range f.Events {
		for _, p := range e.Pushes {
			if strings.HasPrefix(p.RequestLine, "POST /api/push") || p.Body == "" {
				continue
			}
			n++
			d, err := provider.ParseData([]byte(p.Body))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.Body, string(d.AppendJSON(nil))); diff != "" {
				t.Errorf("%s: %s", e.Name, diff)
			}
		}
	}
	if n < 2 {
		t.Errorf("only %d bodies compared", n)
	}
}
