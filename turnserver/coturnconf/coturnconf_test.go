package coturnconf

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = `
# a server as the wiki has it
listening-port=3478
listening-ip=203.0.113.5
external-ip=198.51.100.7/203.0.113.5
min-port=50000
max-port 50999
realm=example.org
lt-cred-mech
use-auth-secret
static-auth-secret=north
user=ann:secret
user=bob:0x8493fbc53ba582fb4c044c456bdc40eb
fingerprint   # always
total-quota=100
max-bps=250000
cert="/etc/ssl/turn.pem"
pkey=/etc/ssl/turn.key
no-dtls
denied-peer-ip=10.0.0.0-10.255.255.255
denied-peer-ip=192.0.2.0/24
allowed-peer-ip=10.1.2.3
mobility
quux=1
`

func TestTranslate(t *testing.T) {
	t.Parallel()
	options, err := Parse(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	r := Translate(options, "/etc/jirani")
	c := r.Config
	if err := c.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	var listeners []string
	for _, l := range c.Listeners {
		listeners = append(listeners, l.Address.String()+" "+strings.Join(l.Transports, ","))
	}
	if diff := cmp.Diff([]string{"203.0.113.5:3478 udp,tcp", "203.0.113.5:5349 tls"}, listeners); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	if c.Relay.External["203.0.113.5"] != "198.51.100.7" || c.Relay.MinPort != 50000 || c.Relay.MaxPort != 50999 {
		t.Errorf("relay = %+v", c.Relay)
	}
	realm := c.Realms[0]
	if realm.Name != "example.org" || realm.UsersFile != "/etc/jirani/users" || len(realm.SharedSecrets) != 1 {
		t.Errorf("realm = %+v", realm)
	}
	want := map[string]string{"users": "ann:secret\nbob:0x8493fbc53ba582fb4c044c456bdc40eb\n", "shared-secret": "north\n"}
	if diff := cmp.Diff(want, r.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := c.Policy.Deny; len(got) != 2 || got[0] != netip.MustParsePrefix("10.0.0.0/8") || c.Policy.Allow[0].String() != "10.1.2.3/32" {
		t.Errorf("policy = %+v", c.Policy)
	}
	if c.Limits.Allocations != 100 || c.Limits.RatePerAllocation != 250000 {
		t.Errorf("limits = %+v", c.Limits)
	}
	notes := strings.Join(r.Notes, "\n")
	for _, n := range []string{"fingerprint: not needed", "mobility: no counterpart", "quux: not known"} {
		if !strings.Contains(notes, n) {
			t.Errorf("notes lack %q:\n%s", n, notes)
		}
	}
	if strings.Contains(notes, "secret:") || strings.Contains(notes, "north") {
		t.Errorf("notes tell a secret:\n%s", notes)
	}
}

func TestCover(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.0.0.1-10.0.0.1":                              "10.0.0.1/32",
		"10.0.0.0-10.0.0.255":                            "10.0.0.0/24",
		"10.0.0.1-10.0.0.4":                              "10.0.0.1/32 10.0.0.2/31 10.0.0.4/32",
		"0.0.0.0-255.255.255.255":                        "0.0.0.0/0",
		"fd00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "fd00::/8",
		"255.255.255.254-255.255.255.255":                "255.255.255.254/31",
	} {
		got, err := addRange(nil, in)
		var list []string
		for _, p := range got {
			list = append(list, p.String())
		}
		if err != nil || strings.Join(list, " ") != want {
			t.Errorf("addRange(%s) = %v, %v; want %s", in, list, err, want)
		}
	}
	for _, bad := range []string{"", "x", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "1.2.3.4/99"} {
		if _, err := addRange(nil, bad); err == nil {
			t.Errorf("addRange(%q) succeeds", bad)
		}
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add(example)
	f.Add("denied-peer-ip=::1-ffff::\nexternal-ip=1.2.3.4\n--listening-ip = [::1]\n")
	f.Fuzz(func(t *testing.T, s string) {
		options, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		r := Translate(options, "")
		if len(options) > 0 && len(r.Notes) > len(options)+4 {
			t.Errorf("%d notes on %d options", len(r.Notes), len(options))
		}
	})
}
