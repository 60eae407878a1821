package safedial

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func none() []netip.Addr { return nil }

func TestAddr(t *testing.T) {
	for _, tc := range []struct {
		addr string
		ok   bool
	}{
		{"93.184.216.34", true},
		{"2606:2800:220:1:248:1893:25c8:1946", true},
		{"127.0.0.1", false},
		{"127.255.255.254", false},
		{"0.0.0.0", false},
		{"10.1.2.3", false},
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"172.32.0.1", true},
		{"192.168.1.1", false},
		{"100.64.0.1", false},
		{"100.127.255.255", false},
		{"100.128.0.1", true},
		{"169.254.169.254", false}, // cloud metadata
		{"224.0.0.251", false},
		{"255.255.255.255", false},
		{"198.18.0.1", false},
		{"192.0.2.1", false},
		{"::", false},
		{"::1", false},
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fd00:ec2::254", false}, // cloud metadata over IPv6
		{"fec0::1", false},
		{"ff02::1", false},
		{"2001:db8::1", false},
		{"::ffff:127.0.0.1", false},         // mapped
		{"::ffff:93.184.216.34", true},      // mapped public
		{"::127.0.0.1", false},              // compatible
		{"::ffff:0:10.0.0.1", false},        // translated
		{"64:ff9b::7f00:1", false},          // NAT64 of loopback
		{"64:ff9b::a9fe:a9fe", false},       // NAT64 of metadata
		{"64:ff9b::5db8:d822", true},        // NAT64 of a public address
		{"64:ff9b:1::1", false},             // local-use NAT64
		{"2002:7f00:1::1", false},           // 6to4 of loopback
		{"2002:c0a8:101::1", false},         // 6to4 of private
		{"2002:5db8:d822::1", true},         // 6to4 of public
		{"2001:0:1:2:3:4:80ff:fffe", false}, // Teredo, client 127.0.0.1
		{"2001:0:1:2:3:4:a247:27dd", true},  // Teredo, client 93.184.216.34
		{"2a00::5efe:192.168.0.1", false},   // ISATAP
		{"2a00::200:5efe:10.0.0.1", false},  // ISATAP with the u bit
	} {
		err := (&Policy{Own: none}).Addr(netip.MustParseAddr(tc.addr), 443)
		if (err == nil) != tc.ok || (err != nil && !errors.Is(err, ErrRefused)) {
			t.Errorf("Addr(%s) = %v, want allowed %v", tc.addr, err, tc.ok)
		}
	}
}

func TestAllowPrivateAndOwn(t *testing.T) {
	lan := netip.MustParsePrefix("192.168.7.0/24")
	public := netip.MustParseAddr("93.184.216.34")
	p := &Policy{AllowPrivate: []netip.Prefix{lan}, Own: func() []netip.Addr { return []netip.Addr{public} }}
	for addr, ok := range map[string]bool{
		"192.168.7.9": true, "::ffff:192.168.7.9": true, "64:ff9b::c0a8:709": true,
		"192.168.8.9": false, "93.184.216.34": false, "::ffff:93.184.216.34": false, "93.184.216.35": true,
	} {
		if err := p.Addr(netip.MustParseAddr(addr), 443); (err == nil) != ok {
			t.Errorf("Addr(%s) = %v, want allowed %v", addr, err, ok)
		}
	}
	if err := (&Policy{}).Addr(netip.MustParseAddr("127.0.0.1"), 443); err == nil {
		t.Error("the machine's own list let loopback pass")
	}
}

func TestURL(t *testing.T) {
	lan := &Policy{AllowHTTP: true, Ports: []uint16{80, 443, 8089}, Own: none,
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, tc := range []struct {
		p   *Policy
		url string
		ok  bool
	}{
		{&Policy{}, "https://push.example/upABC?up=1", true},
		{&Policy{}, "https://push.example:443/x", true},
		{&Policy{}, "https://push.example:8443/x", false},
		{&Policy{}, "http://push.example/x", false},
		{&Policy{}, "ftp://push.example/x", false},
		{&Policy{}, "https:push.example", false},
		{&Policy{}, "https:///x", false},
		{&Policy{}, "https://u@push.example/", false},
		{&Policy{}, "https://u:p@push.example/", false},
		{&Policy{}, "https://push.example/#f", false},
		{&Policy{}, "https://push.example/#", false},
		{&Policy{}, "https://push.example:0/", false},
		{&Policy{}, "https://push.example:99999/", false},
		{&Policy{}, "https://127.0.0.1/", false},
		{&Policy{}, "https://127.1/", false},
		{&Policy{}, "https://0x7f000001/", false},
		{&Policy{}, "https://2130706433/", false},
		{&Policy{}, "https://0177.0.0.1/", false},
		{&Policy{}, "https://a.b.0x7f/", false},
		{&Policy{}, "https://[::1]/", false},
		{&Policy{}, "https://[::ffff:10.0.0.1]/", false},
		{&Policy{}, "https://[fe80::1%25eth0]/", false},
		{&Policy{}, "https://localhost/", false},
		{&Policy{}, "https://LOCALHOST./", false},
		{&Policy{}, "https://a.localhost/", false},
		{&Policy{}, "https://push.example/" + strings.Repeat("a", MaxURL), false},
		{lan, "http://10.1.2.3:8089/upX?up=1", true},
		{lan, "http://192.168.1.1/", false},
		{lan, "http://10.1.2.3:22/", false},
	} {
		_, err := tc.p.URL(tc.url)
		if (err == nil) != tc.ok || (err != nil && !errors.Is(err, ErrRefused)) {
			t.Errorf("URL(%.60q) = %v, want allowed %v", tc.url, err, tc.ok)
		}
	}
}

// target is a TLS server on loopback, and a client that reaches it by the name "push.example" as answered by
// answer, through policy.
func target(t *testing.T, p *Policy, handler http.Handler, answer func(n int) string) (*http.Client, string) {
	t.Helper()
	srv := httptest.NewTLSServer(handler)
	t.Cleanup(srv.Close)
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	p.Ports, p.Own = append(p.Ports, port), none
	d := p.Dialer(2 * time.Second)
	d.Resolver = resolver(t, answer)
	tr := p.Transport(2*time.Second, 4)
	tr.DialContext = d.DialContext
	tr.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	tr.TLSClientConfig.ServerName = "example.com"
	tr.DisableKeepAlives = true
	t.Cleanup(tr.CloseIdleConnections)
	_, portText, _ := net.SplitHostPort(srv.Listener.Addr().String())
	return &http.Client{Transport: tr, CheckRedirect: NoRedirect}, "https://push.example:" + portText + "/"
}

// resolver answers A questions with answer(n) for the n-th one, AAAA with nothing.
func resolver(t *testing.T, answer func(n int) string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { pc.Close(); <-done })
	go func() { // ends when pc is closed
		defer close(done)
		buf, n := make([]byte, 1500), 0
		for {
			size, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				n++
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(answer(n)).As4()},
				}}
			}
			if out, err := m.Pack(); err == nil {
				pc.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// TestRebinding lets a name answer with an allowed address first and with loopback afterwards: the policy here
// allows one loopback address, so that the first request can succeed, and must refuse the second.
func TestRebinding(t *testing.T) {
	var hits atomic.Int32
	p := &Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	c, url := target(t, p, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }),
		func(n int) string {
			if n == 1 {
				return "127.0.0.1"
			}
			return "127.0.0.2"
		})
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if _, err := c.Get(url); !errors.Is(err, ErrRefused) {
		t.Errorf("second request: %v, want refusal", err)
	}
	if hits.Load() != 1 {
		t.Errorf("server saw %d requests, want 1", hits.Load())
	}
}

func TestNameToLoopbackIsRefused(t *testing.T) {
	p := &Policy{}
	c, url := target(t, p, http.NotFoundHandler(), func(int) string { return "127.0.0.1" })
	if _, err := p.URL(url); err != nil {
		t.Fatalf("URL refused a name: %v", err)
	}
	if _, err := c.Get(url); !errors.Is(err, ErrRefused) {
		t.Errorf("Get = %v, want refusal", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var hits atomic.Int32
	p := &Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	c, url := target(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}), func(int) string { return "127.0.0.1" })
	res, err := c.Post(url, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusTemporaryRedirect || hits.Load() != 1 {
		t.Errorf("status %d after %d requests, want 307 after 1", res.StatusCode, hits.Load())
	}
}

func TestProxyFromEnvironmentIsIgnored(t *testing.T) {
	if (&Policy{}).Transport(time.Second, 1).Proxy != nil {
		t.Error("transport takes a proxy from the environment")
	}
}

func TestControlNetworks(t *testing.T) {
	p := &Policy{Own: none}
	for _, tc := range [][2]string{{"udp4", "93.184.216.34:443"}, {"unix", "/run/x"}, {"tcp4", "name:443"}} {
		if err := p.Control(t.Context(), tc[0], tc[1], nil); !errors.Is(err, ErrRefused) {
			t.Errorf("Control(%s, %s) = %v", tc[0], tc[1], err)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://push.example/upABC?up=1", "https://127.1/", "http://[::1]:80/#x", "https://0x7f.1"} {
		f.Add(s)
	}
	p := &Policy{Own: none}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := p.URL(raw)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("error outside the family: %v", err)
			}
			return
		}
		if u.Scheme != "https" || u.User != nil || len(raw) > MaxURL {
			t.Errorf("URL(%q) let pass %v", raw, u)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && special(a) != "" {
			t.Errorf("URL(%q) let a special address pass", raw)
		}
		if _, err := url.Parse(u.String()); err != nil {
			t.Errorf("accepted URL does not parse again: %v", err)
		}
	})
}
