package logging

import (
	"net/netip"
	"strings"
	"testing"
)

func TestRemoteIsRedactedUnlessAsked(t *testing.T) {
	addr := netip.MustParseAddrPort("203.0.113.9:4222")
	tests := []struct{ addresses, format, want, wantNot string }{
		{"redacted", "json", `"remote":"203.0.x.x"`, "203.0.113"},
		{"redacted", "text", `remote=203.0.x.x`, "203.0.113"},
		{"full", "json", `"remote":"203.0.113.9:4222"`, "x.x"},
		{"full", "text", `remote=203.0.113.9:4222`, "x.x"},
	}
	for _, tt := range tests {
		var b strings.Builder
		l := New(Config{Level: "info", Format: tt.format, Addresses: tt.addresses}, &b)
		l.Info("packet dropped", Remote(addr))
		if got := b.String(); !strings.Contains(got, tt.want) || strings.Contains(got, tt.wantNot) {
			t.Errorf("%s %s log = %s, want %s", tt.addresses, tt.format, got, tt.want)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"198.51.100.7": "198.51.x.x", "::ffff:198.51.100.7": "198.51.x.x", "2001:db8:1::1": "2001:db8:x", "127.0.0.1": "127.0.0.1", "::1": "::1",
		"fe80::1%eth0": "fe80:0:x",
	} {
		if got := Redact(netip.MustParseAddr(in)); got != want {
			t.Errorf("Redact(%s) = %s, want %s", in, got, want)
		}
	}
	if got := Redact(netip.Addr{}); got != "unknown" {
		t.Errorf("Redact(zero) = %s", got)
	}
}

func TestSetLevel(t *testing.T) {
	var b strings.Builder
	l := New(Default(), &b)
	l.Debug("unseen")
	l.SetLevel(Config{Level: "debug"})
	l.Debug("seen")
	if got := b.String(); strings.Contains(got, "unseen") || !strings.Contains(got, "seen") {
		t.Errorf("log = %s", got)
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("Default().Validate() = %v", err)
	}
	err := Config{Level: "loud", Format: "xml", Addresses: "some"}.Validate()
	for _, key := range []string{"level", "format", "addresses"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("Validate = %v, want a problem with %s", err, key)
		}
	}
}
