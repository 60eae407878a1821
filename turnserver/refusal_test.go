package turnserver

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var somePeer = netip.MustParseAddrPort("127.0.0.1:9")

// Every error of RFC 8656 and RFC 6062 that a client can provoke by a request on a fresh 5-tuple.
func TestAllocateRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	udp, tcp := requestedTransport(protocolUDP), requestedTransport(protocolTCP)
	evenPort := func(r byte) attr { return attr{stun.AttrEvenPort, []byte{r << 7}} }
	token := attr{stun.AttrReservationToken, []byte("12345678")}
	additional := func(f byte) attr { return attr{attrAdditionalAddressFamily, []byte{f, 0, 0, 0}} }
	for _, tt := range []struct {
		name, transport string
		attrs           []any
		want            int
	}{
		{"no transport", "udp", nil, 400},
		{"short transport", "udp", []any{attr{stun.AttrRequestedTransport, []byte{17}}}, 400},
		{"unknown transport", "udp", []any{requestedTransport(132)}, 442},
		{"tcp over udp", "udp", []any{tcp}, 400},
		{"tcp with even port", "tcp", []any{tcp, evenPort(0)}, 400},
		{"tcp with reservation", "tcp", []any{tcp, token}, 400},
		{"tcp with dont-fragment", "tcp", []any{tcp, attr{stun.AttrDontFragment, nil}}, 400},
		{"token and even port", "udp", []any{udp, token, evenPort(0)}, 400},
		{"token and family", "udp", []any{udp, token, familyAttr(1)}, 400},
		{"unknown token", "udp", []any{udp, token}, 508},
		{"both families", "udp", []any{udp, familyAttr(1), additional(2)}, 400},
		{"additional ipv4", "udp", []any{udp, additional(1)}, 400},
		{"family not served", "udp", []any{udp, familyAttr(2)}, 440},
		{"family unheard of", "udp", []any{udp, familyAttr(7)}, 440},
		{"unknown attribute", "udp", []any{udp, attr{0x7fff, []byte("abcd")}}, 420},
		{"unknown optional attribute", "udp", []any{udp, attr{0xffff, []byte("abcd")}}, 0},
		{"dont-fragment", "udp", []any{udp, attr{stun.AttrDontFragment, nil}}, 0},
	} {
		c := newClient(t, s, tt.transport)
		if got := errorCode(c.ask(stun.MethodAllocate, tt.attrs...)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestRequestsWithoutAllocation(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, m := range []stun.Method{stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind, stun.MethodConnect} {
		c := newClient(t, s, "udp")
		if got := errorCode(c.ask(m, peerAttr(somePeer), channelAttr(0x4000))); got != 437 {
			t.Errorf("%v: %d, want 437", m, got)
		}
	}
	c := newClient(t, s, "tcp")
	if got := errorCode(c.ask(stun.MethodConnectionBind, u32(stun.AttrConnectionID, 7))); got != 400 {
		t.Errorf("ConnectionBind to nothing: %d, want 400", got)
	}
	c.login()
	if got := errorCode(c.do(message(stun.NewType(0x0ff, stun.ClassRequest)))); got != 400 {
		t.Errorf("unknown method: %d, want 400", got)
	}
}

func TestRequestsOnAllocation(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := newClient(t, s, "udp")
	c.allocate()
	v6 := netip.MustParseAddrPort("[2001:db8::1]:9")
	for _, tt := range []struct {
		name   string
		method stun.Method
		attrs  []any
		want   int
	}{
		{"second allocate", stun.MethodAllocate, []any{requestedTransport(protocolUDP)}, 437},
		{"permission for nobody", stun.MethodCreatePermission, nil, 400},
		{"permission of another family", stun.MethodCreatePermission, []any{peerAttr(v6)}, 443},
		{"permission with a broken address", stun.MethodCreatePermission, []any{attr{stun.AttrXORPeerAddress, []byte{0, 1, 2}}}, 400},
		{"permission for many, some refused", stun.MethodCreatePermission, []any{peerAttr(netip.MustParseAddrPort("10.0.0.1:9")), peerAttr(somePeer),
			peerAttr(netip.MustParseAddrPort("224.0.0.1:9"))}, 0},
		{"channel without number", stun.MethodChannelBind, []any{peerAttr(somePeer)}, 400},
		{"channel without peer", stun.MethodChannelBind, []any{channelAttr(0x4000)}, 400},
		{"channel below the range", stun.MethodChannelBind, []any{channelAttr(0x3fff), peerAttr(somePeer)}, 400},
		{"channel above the range", stun.MethodChannelBind, []any{channelAttr(0x5000), peerAttr(somePeer)}, 400},
		{"channel of another family", stun.MethodChannelBind, []any{channelAttr(0x4000), peerAttr(v6)}, 443},
		{"channel to a refused peer", stun.MethodChannelBind, []any{channelAttr(0x4000), peerAttr(netip.MustParseAddrPort("10.0.0.1:9"))}, 403},
		{"channel", stun.MethodChannelBind, []any{channelAttr(0x4000), peerAttr(somePeer)}, 0},
		{"channel again", stun.MethodChannelBind, []any{channelAttr(0x4000), peerAttr(somePeer)}, 0},
		{"number taken", stun.MethodChannelBind, []any{channelAttr(0x4000), peerAttr(netip.MustParseAddrPort("127.0.0.1:10"))}, 400},
		{"peer taken", stun.MethodChannelBind, []any{channelAttr(0x4001), peerAttr(somePeer)}, 400},
		{"connect on a udp allocation", stun.MethodConnect, []any{peerAttr(somePeer)}, 400},
		{"refresh of another family", stun.MethodRefresh, []any{familyAttr(2)}, 443},
		{"refresh", stun.MethodRefresh, nil, 0},
	} {
		if got := errorCode(c.ask(tt.method, tt.attrs...)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.Limits.NonceLifetime = time.Minute })
	allocate := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	c := newClient(t, s, "udp")
	c.login()
	if c.realm != "ring" {
		t.Errorf("realm %q, want ring", c.realm)
	}
	signed := func(change func(*testClient)) *stun.Message {
		d := *c
		change(&d)
		return d.sign(message(allocate, requestedTransport(protocolUDP)))
	}
	without := func(skip stun.AttrType) *stun.Message {
		m := message(allocate, requestedTransport(protocolUDP))
		for t, v := range map[stun.AttrType]string{stun.AttrUsername: c.user, stun.AttrRealm: c.realm, stun.AttrNonce: c.nonce} {
			if t != skip {
				m.Add(t, []byte(v))
			}
		}
		_ = c.key().AddTo(m)
		return m
	}
	for _, tt := range []struct {
		name string
		m    *stun.Message
		want int
	}{
		{"no user name", without(stun.AttrUsername), 400},
		{"no realm", without(stun.AttrRealm), 400},
		{"no nonce", without(stun.AttrNonce), 400},
		{"wrong password", signed(func(c *testClient) { c.password = "other" }), 401},
		{"unknown user", signed(func(c *testClient) { c.user = "nobody" }), 401},
		{"unknown realm", signed(func(c *testClient) { c.realm = "elsewhere" }), 401},
		{"forged nonce", signed(func(c *testClient) { c.nonce = "abcdefghijklmnopqrst" }), 438},
		{"empty nonce", signed(func(c *testClient) { c.nonce = "" }), 438},
		{"right", signed(func(*testClient) {}), 0},
	} {
		resp := c.do(tt.m)
		if got := errorCode(resp); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
		if hasNonce := get(resp, stun.AttrNonce) != ""; hasNonce != (tt.want == 401 || tt.want == 438) {
			t.Errorf("%s: nonce in the answer: %v", tt.name, hasNonce)
		}
	}
}

func TestAllocateRetransmission(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := newClient(t, s, "udp")
	c.login()
	m := c.sign(message(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestedTransport(protocolUDP)))
	first, second := c.do(m), c.do(m)
	if errorCode(first) != 0 || errorCode(second) != 0 {
		t.Fatalf("Allocate and its copy: %d, %d; want success", errorCode(first), errorCode(second))
	}
	if get(first, stun.AttrXORRelayedAddress) != get(second, stun.AttrXORRelayedAddress) || s.count() != 1 {
		t.Error("the copy has made another allocation")
	}
}

// A user's allocation is not for another user of the same 5-tuple.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.Realms[0].UsersFile = writeSecret(t, "ann:secret\n")
	})
	c := newClient(t, s, "udp")
	c.allocate()
	c.user, c.password = "ann", "secret"
	for _, m := range []stun.Method{stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind} {
		if got := errorCode(c.ask(m, peerAttr(somePeer))); got != 441 {
			t.Errorf("%v: %d, want 441", m, got)
		}
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   int
		reason refusal
	}{
		"user":    {func(c *Config) { c.Limits.AllocationsPerUser = 2 }, 486, refusedQuotaUser},
		"address": {func(c *Config) { c.Limits.AllocationsPerAddress = 2 }, 486, refusedQuotaAddress},
		"total":   {func(c *Config) { c.Limits.Allocations = 2 }, 508, refusedQuotaTotal},
		"ports":   {func(c *Config) { c.Relay.MinPort, c.Relay.MaxPort = 62200, 62201 }, 508, refusedPorts},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tt.change)
			first := newClient(t, s, "udp")
			first.allocate()
			newClient(t, s, "udp").allocate()
			third := newClient(t, s, "udp")
			if got := errorCode(third.ask(stun.MethodAllocate, requestedTransport(protocolUDP))); got != tt.want {
				t.Errorf("third allocation: %d, want %d", got, tt.want)
			}
			if n := testutil.ToFloat64(s.metrics.refusal[tt.reason]); n != 1 {
				t.Errorf("counted %v times as %s", n, tt.reason)
			}
			first.must(stun.MethodRefresh, lifetimeAttr(0))
			if got := errorCode(third.ask(stun.MethodAllocate, requestedTransport(protocolUDP))); got != 0 {
				t.Errorf("after one has gone: %d, want success", got)
			}
		})
	}
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for asked, want := range map[uint32]uint32{0: 600, 1: 600, 900: 900, 100_000: 3600} {
		c := newClient(t, s, "udp")
		resp := c.must(stun.MethodAllocate, requestedTransport(protocolUDP), lifetimeAttr(asked))
		if got := fmt.Sprintf("%x", get(resp, stun.AttrLifetime)); got != fmt.Sprintf("%08x", want) {
			t.Errorf("LIFETIME %d: answer %s, want %08x", asked, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := newClient(t, s, "udp")
	c.allocate()
	s.sweepOnce(time.Now().Add(601 * time.Second))
	if s.count() != 0 {
		t.Error("an expired allocation lives")
	}
	if got := errorCode(c.ask(stun.MethodRefresh)); got != 437 {
		t.Errorf("Refresh after expiry: %d, want 437", got)
	}
}
