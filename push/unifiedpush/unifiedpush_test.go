package unifiedpush

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/safedial"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

// sink is a push server that keeps one request.
func sink(t *testing.T, h http.HandlerFunc) (*Provider, *httptest.Server) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	vapid, err := LoadVAPID(t.TempDir()+"/vapid.pem", "mailto:ops@jirani.example")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	p := New(Config{VAPID: vapid, Transport: srv.Client().Transport, Policy: safedial.Policy{
		Ports: []uint16{port}, Own: func() []netip.Addr { return nil },
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}})
	t.Cleanup(p.Close)
	return p, srv
}

func hint(t testing.TB, endpoint, topic, data string) *provider.Message {
	t.Helper()
	d, err := provider.ParseData([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return &provider.Message{Target: provider.Target{Platform: provider.UnifiedPush, Token: provider.PushToken(endpoint), Topic: topic},
		Data: d, Priority: provider.High, ExpiresAt: time.Now().Add(time.Hour)}
}

// TestSentBodies looks at what goes over the wire: RFC 8030 headers, padding, a VAPID token that RFC 8292 allows,
// and a body that opens.
func TestSentBodies(t *testing.T) {
	var got *http.Request
	var body []byte
	p, srv := sink(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(201)
	})
	sub, err := fake.NewSubscription(srv.URL + "/upX?up=1")
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for _, n := range []int{1, 100, 300, 409, 410, 3000, maxBody - overhead - 8} {
		data := `{"a":"` + strings.Repeat("x", n) + `"}`
		for _, topic := range []string{sub.Topic(), ""} {
			m := hint(t, sub.Endpoint, topic, data)
			m.CollapseID = "t-1"
			if out := p.Send(t.Context(), m); out.Verdict != provider.Delivered {
				t.Fatalf("%d bytes: %+v", n, out)
			}
			h := got.Header
			if h.Get("TTL") != "3600" || h.Get("Urgency") != "high" || h.Get("Topic") != "t-1" {
				t.Errorf("headers %v", h)
			}
			if err := fake.CheckVAPID(h.Get("Authorization"), srv.URL, time.Now()); err != nil {
				t.Errorf("VAPID: %v", err)
			}
			plain := body
			if topic != "" {
				sizes[len(body)] = true
				if plain, err = sub.Decrypt(body); err != nil {
					t.Fatal(err)
				}
			}
			if string(plain) != data {
				t.Errorf("body of %d bytes became %d", len(data), len(plain))
			}
		}
	}
	for n := range sizes {
		if n%bucket != 0 || n > maxBody {
			t.Errorf("encrypted body of %d bytes", n)
		}
	}
	m := hint(t, sub.Endpoint, sub.Topic(), `{"a":"`+strings.Repeat("x", maxBody-overhead-7)+`"}`)
	if out := p.Send(t.Context(), m); out.Reason != provider.ReasonTooLarge {
		t.Errorf("a byte too much: %+v", out)
	}
}

// TestVAPIDExample checks the verifier with the token of RFC 8292 §2.4, and ours with the verifier.
func TestVAPIDExample(t *testing.T) {
	const example = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, " +
		"k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
	if err := fake.CheckVAPID(example, "https://push.example.net", time.Unix(1453523768-3600, 0)); err != nil {
		t.Errorf("RFC 8292 §2.4: %v", err)
	}
	if fake.CheckVAPID(example, "https://push.example.org", time.Unix(1453523768-3600, 0)) == nil {
		t.Error("token for another origin accepted")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vapid, err := NewVAPID(key, "https://jirani.example/contact")
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("https://push.example.net:8443/upX?up=1")
	now := time.Now()
	first, err := vapid.Authorization(u, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := fake.CheckVAPID(first, "https://push.example.net:8443", now); err != nil {
		t.Error(err)
	}
	if again, _ := vapid.Authorization(u, now.Add(10*time.Hour)); again != first {
		t.Error("token not kept")
	}
	if later, _ := vapid.Authorization(u, now.Add(11*time.Hour)); later == first {
		t.Error("token kept beyond its life")
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	hits := 0
	p, srv := sink(t, func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	for _, topic := range []string{"", load(t).ReceiverPublic + "|" + load(t).Auth} {
		out := p.Send(t.Context(), hint(t, srv.URL+"/x", topic, `{}`))
		if out.Reason != provider.ReasonRedirect || out.Verdict != provider.DropMessage {
			t.Errorf("outcome %+v", out)
		}
	}
	if hits != 2 {
		t.Errorf("%d requests, want 2", hits)
	}
}

// TestForbiddenEndpoints: the rules hold for the URL, and for the address behind a name.
func TestForbiddenEndpoints(t *testing.T) {
	vapid, err := LoadVAPID(t.TempDir()+"/vapid.pem", "mailto:ops@jirani.example")
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{VAPID: vapid, Timeout: time.Second})
	defer p.Close()
	for _, endpoint := range []string{
		"http://push.example/x", "https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.1/x", "https://169.254.169.254/latest",
		"https://[::ffff:127.0.0.1]/x", "https://[64:ff9b::7f00:1]/x", "https://[2002:7f00:1::1]/x", "https://localhost/x",
		"https://u@push.example/x", "https://push.example:22/x", "https://push.example/x#f", "https://2130706433/x", "x",
		"https://push.example/" + strings.Repeat("x", 1000),
	} {
		m := hint(t, endpoint, "", `{}`)
		if p.Host(m) != "" || p.Check(m) == nil {
			t.Errorf("%.60s admitted", endpoint)
		}
		if out := p.Send(t.Context(), m); out.Reason != provider.ReasonForbidden {
			t.Errorf("%.60s: %+v", endpoint, out)
		}
	}
}

func TestAddressRefusedAtTheDial(t *testing.T) {
	vapid, err := LoadVAPID(t.TempDir()+"/vapid.pem", "mailto:ops@jirani.example")
	if err != nil {
		t.Fatal(err)
	}
	policy := safedial.Policy{}
	tr := policy.Transport(time.Second, 1)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, "127.0.0.1:443") // what a name may turn into between the check and the dial
	}
	p := New(Config{VAPID: vapid, Transport: tr})
	defer p.Close()
	out := p.Send(t.Context(), hint(t, "https://push.example/x", "", `{}`))
	if out.Reason != provider.ReasonForbidden || out.Verdict != provider.DropMessage {
		t.Errorf("outcome %+v", out)
	}
}
