package turnserver

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/turnserver/policy"
)

// TestKernelUntil: the kernel relays a channel no longer than allocation, binding and permission live, and none that it may not.
func TestKernelUntil(t *testing.T) {
	t.Parallel()
	now := time.Now()
	peer := netip.MustParseAddrPort("198.51.100.9:4567")
	for name, tt := range map[string]struct {
		change func(*alloc)
		want   time.Duration // from now
	}{
		"the permission ends first": {func(*alloc) {}, 300 * time.Second},
		"the allocation ends first": {func(a *alloc) { a.expiresAt = now.Add(time.Minute) }, time.Minute},
		"the binding ends first":    {func(a *alloc) { a.channels.All()[0].ExpiresAt = now.Add(time.Second) }, time.Second},
		"the allocation has ended":  {func(a *alloc) { a.closed = true }, 0},
		"the family was given back": {func(a *alloc) { a.udp[0] = nil }, 0},
		"no permission":             {func(a *alloc) { a.perms = (&alloc{}).perms }, 0},
		"the policy refuses":        {func(a *alloc) { a.perms.Grant(peer.Addr(), policy.Denied, now) }, 0},
		"the peer is this host":     {func(a *alloc) { a.srv.here.Load().own[peer.Addr()] = struct{}{} }, 0},
		"the client is this host":   {func(a *alloc) { a.srv.here.Load().own[a.tuple.client.Addr()] = struct{}{} }, 0},
		"a client by IPv6":          {func(a *alloc) { a.tuple.client = netip.MustParseAddrPort("[2001:db8::1]:7") }, 0},
	} {
		s := &Server{}
		s.here.Store(&places{own: make(map[netip.Addr]struct{})})
		a := &alloc{srv: s, expiresAt: now.Add(time.Hour), tuple: fiveTuple{client: netip.MustParseAddrPort("192.0.2.7:40001")}}
		a.udp[0] = &udpRelay{alloc: a}
		ch, err := a.channels.Bind(0x4000, peer, now)
		if err != nil {
			t.Fatal(err)
		}
		ch.Path.relay = a.udp[0]
		a.perms.Grant(peer.Addr(), policy.Allowed, now)
		tt.change(a)
		got := a.kernelUntil(ch)
		if want := now.Add(tt.want); tt.want > 0 && !got.Equal(want) || tt.want == 0 && got.After(now) {
			t.Errorf("%s: until %v from now, want %v", name, got.Sub(now), tt.want)
		}
	}
}

// TestKernelPathPage: why the kernel does not relay is told.
func TestKernelPathPage(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Listeners[0].Address = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Relay.KernelPath, cfg.Limits.RateTotal = "auto", 1<<20
	s, err := New(t.Context(), cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeAll()
	w := httptest.NewRecorder()
	s.OpsHandlers()["GET /v1/kernel_path"].ServeHTTP(w, httptest.NewRequest("GET", "/v1/kernel_path", nil))
	var page KernelPath
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || page.State != string(kernelLimits) || page.Reason == "" || page.Channels != 0 {
		t.Errorf("%s, %v", w.Body, err)
	}
}
