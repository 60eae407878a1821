package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/nameproto"
)

var (
	alice = nameproto.Address{1}
	bob   = nameproto.Address{2}
	carol = nameproto.Address{3}
)

func config(mode Mode) Config {
	c := Default()
	c.Mode = mode
	return c
}

func TestAllow(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "allowed")
	text := "# members\n" + alice.String() + "\n\n0x" + bob.String() + " Admin # the operator\n"
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		mode    Mode
		key     string
		addr    nameproto.Address
		invited bool
		want    error
	}{
		{ModeOpen, "alice", alice, false, nil},
		{ModeOpen, "admin", alice, false, ErrRefused},
		{ModeOpen, "adrnin", alice, false, ErrRefused},
		{ModeInvite, "alice", alice, false, ErrInvite},
		{ModeInvite, "alice", alice, true, nil},
		{ModeInvite, "root", alice, true, ErrRefused},
		{ModeClosed, "alice", alice, true, ErrRefused},
		{ModeAllowList, "alice", alice, false, nil},
		{ModeAllowList, "admin", alice, false, ErrRefused},
		{ModeAllowList, "admin", bob, false, nil},
		{ModeAllowList, "bob", bob, false, ErrRefused},
		{ModeAllowList, "carol", carol, false, ErrRefused},
	}
	for _, tt := range tests {
		c := config(tt.mode)
		c.AllowList = list
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Allow(tt.key, tt.addr, tt.invited); !errors.Is(err, tt.want) {
			t.Errorf("%s: Allow(%q, %v, %v) = %v, want %v", tt.mode, tt.key, tt.addr, tt.invited, err, tt.want)
		}
	}
}

func TestAllowListRefuses(t *testing.T) {
	t.Parallel()
	p, err := New(config(ModeOpen))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"\nxyz":                             "line 2",
		alice.String() + " a b":             "at most one name",
		alice.String() + " !":               "impossible name",
		strings.Repeat("a", maxAllowLine+1): "too long",
	} {
		if _, err := p.parseAllowList(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want an error about %q", text, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	bad := Config{Mode: "public", MinLength: 0, MaxLength: 99, Reserved: []string{"!"}, RateInterval: -1}
	var keys []string
	bad.Check(func(key, _ string, _ ...any) { keys = append(keys, key) })
	want := "mode min_length max_length rate_burst rate_prefix4 rate_prefix6 rate_interval reserved[0]"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("problems under %s, want %s", got, want)
	}
	config(ModeOpen).Check(func(key, format string, args ...any) {
		t.Errorf("default: %s: %s", key, fmt.Sprintf(format, args...))
	})
	c := config(ModeAllowList)
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "allow_list") {
		t.Errorf("allow-list without a file: %v", err)
	}
}

func TestConfusablesOff(t *testing.T) {
	t.Parallel()
	c := config(ModeOpen)
	c.Confusables = false
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Skeleton("pau1"); got != "" {
		t.Errorf("Skeleton = %q, want none", got)
	}
	if err := p.Allow("adrnin", alice, false); err != nil {
		t.Errorf("a lookalike of a reserved name: %v", err)
	}
	if err := p.Allow("admin", alice, false); !errors.Is(err, ErrRefused) {
		t.Errorf("a reserved name: %v", err)
	}
	want := "jirani name rules 1\nregistration open\nunicode false\nlength 3-32\nconfusables false\n"
	if got := p.Rules(); got != want {
		t.Errorf("Rules = %q, want %q", got, want)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	c := Default()
	c.RateBurst, c.RateInterval = 2, time.Minute
	c.RateExempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	l := NewLimiter(c)
	now := time.Unix(1_800_000_000, 0)
	steps := []struct {
		after time.Duration
		addr  string
		wait  time.Duration
	}{
		{0, "198.51.100.1", 0},
		{0, "198.51.100.1", 0},
		{0, "198.51.100.1", time.Minute},
		{0, "::ffff:198.51.100.1", time.Minute},
		{0, "198.51.100.2", 0},
		{20 * time.Second, "198.51.100.1", 40 * time.Second},
		{40 * time.Second, "198.51.100.1", 0},
		{0, "198.51.100.1", time.Minute},
		{0, "2001:db8:0:1::1", 0},
		{0, "2001:db8:0:2::2", 0},
		{0, "2001:db8:0:3::3", time.Minute},
		{0, "2001:db8:1::1", 0},
		{-time.Hour, "198.51.100.1", time.Minute}, // clock set back
		{2 * time.Hour, "198.51.100.1", 0},
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if got := l.Take(now, netip.MustParseAddr(s.addr)); got != s.wait {
			t.Errorf("step %d: Take(%s) = %v, want %v", i, s.addr, got, s.wait)
		}
	}
	for range 5 {
		if got := l.Take(now, netip.MustParseAddr("192.0.2.7")); got != 0 {
			t.Errorf("exempt network waits %v", got)
		}
	}
	if l.Take(now, netip.Addr{}) != 0 {
		t.Error("an unknown address waits")
	}
}

func TestLimiterOff(t *testing.T) {
	t.Parallel()
	c := Default()
	c.RateInterval = 0
	l := NewLimiter(c)
	if l.Take(time.Time{}, netip.MustParseAddr("198.51.100.1")) != 0 || l.Networks() != 0 {
		t.Error("no limit was asked for")
	}
}

func TestLimiterBounded(t *testing.T) {
	t.Parallel()
	l := NewLimiter(Default())
	now := time.Unix(1_800_000_000, 0)
	for i := range maxNetworks + 10 {
		l.Take(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := l.Networks(); n != maxNetworks {
		t.Errorf("%d networks known, want %d", n, maxNetworks)
	}
}
