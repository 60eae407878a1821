package push

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/jirani/jirani/integration/dhtinterop/theirs"
	"github.com/jirani/jirani/integration/program"
)

const infoHash = "70b66bd7e4725e6914a5abc3e4761d1ae5def259"

// proxy is an upstream DHT proxy with somebody to keep its values.
type proxy struct {
	t   *testing.T
	url string
}

func startProxy(t *testing.T, gateway string) *proxy {
	t.Helper()
	theirs.Require(t)
	other := theirs.StartNode(t, theirs.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close() // dhtnode does not take a socket, nor tell the port it chose
	theirs.StartNode(t, theirs.Options{Bootstrap: fmt.Sprint("127.0.0.1:", other.Port),
		Args: []string{"--proxyserver", port, "--pushserver", gateway, "--bundleid", "cx.ring.test"}})
	return &proxy{t, "http://127.0.0.1:" + port + "/key/" + infoHash}
}

// ask makes a request as clients do and returns the status, 0 without an answer.
func (p *proxy) ask(method, body string) int {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func (p *proxy) subscribe(platform, token, topic string) {
	p.t.Helper()
	body := fmt.Sprintf(`{"client_id":"acct1","key":%q,"platform":%q,"session_id":"IXv#=,C#","topic":%q} `, token, platform, topic)
	program.Eventually(p.t, "subscribes "+platform, func() bool { return p.ask("SUBSCRIBE", body) == http.StatusOK })
}

// put stores a value. Proxies push it even while their node is still joining, when they answer that it could not be stored.
func (p *proxy) put(id, prio int) {
	p.t.Helper()
	p.ask(http.MethodPost, fmt.Sprintf(`{"data":"aGVsbG8=","id":"%d","type":0,"prio":%d}`, id, prio))
}

// TestUpstreamProxy has an upstream proxy point at the gateway: what it says of values of both priorities reaches the vendors,
// simulated by servers that enforce the real ones' rules.
func TestUpstreamProxy(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil, "apns.call_guard=0s")
	p := startProxy(t, s.gateway())
	p.subscribe("android", "TOKEN-A", "")
	p.subscribe("ios", strings.Repeat("ab", 32), "com.savoirfairelinux.ring")
	p.subscribe("ios", strings.Repeat("cd", 32), "") // the proxy's own bundle id
	delivered := func(provider, priority string) bool {
		return s.Metric(fmt.Sprintf(`push_messages_total{priority=%q,provider=%q,status="delivered"}`, priority, provider)) > 0
	}
	id := 0
	for prio, name := range []string{"high", "normal"} { // on the DHT, 0 is the most urgent
		program.Eventually(t, "delivers "+name, func() bool {
			id++
			p.put(id, prio)
			return delivered("fcm", name) && delivered("apns", name)
		})
	}
	for _, bad := range []string{"push_malformed_requests_total", `push_refused_total{platform="android",reason="token"}`,
		`push_messages_total{priority="high",provider="apns",status="dropped"}`, `push_messages_total{priority="high",provider="fcm",status="dropped"}`} {
		if n := s.Metric(bad); n != 0 {
			t.Errorf("%s = %v", bad, n)
		}
	}
}

// TestUpstreamProxyToUnifiedPush has an upstream proxy POST to the UnifiedPush server itself, on port 80: proxies before 3.1.8 drop
// the port from endpoints.
func TestUpstreamProxyToUnifiedPush(t *testing.T) {
	t.Parallel()
	const host = "127.0.0.80"
	if os.Getuid() != 0 && os.Getenv("JIRANI_REQUIRE") != "1" {
		t.Skip("root needed, for port 80 of " + host)
	}
	s := start(t, t.TempDir(), nil, "distributor.listen="+host+":80")
	p := startProxy(t, s.gateway())
	p.subscribe("unifiedpush", "http://"+host+"/upHome?up=1", "")
	id := 0
	program.Eventually(t, "receives", func() bool {
		id++
		p.put(id, 0)
		return len(s.kept("upHome")) > 0
	})
	if got := s.kept("upHome")[0]; !strings.Contains(got, `"key":"`+infoHash+`"`) {
		t.Errorf("message %q", got)
	}
}
