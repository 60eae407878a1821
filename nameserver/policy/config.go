package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Mode says who may register.
type Mode string

// The modes; see the package comment.
const (
	ModeOpen      Mode = "open"
	ModeInvite    Mode = "invite"
	ModeAllowList Mode = "allow-list"
	ModeClosed    Mode = "closed"
)

// Config is the policy section of the name server's configuration.
type Config struct {
	// Mode is who may register: open, invite, allow-list or closed. Empty, the
	// default, means open while the server listens on loopback only; one that
	// others can reach must say it, since a name is for ever. A wrong value
	// lets strangers take names, or keeps members out.
	Mode Mode `yaml:"mode"`
	// AllowList is the file of accounts that may register in mode allow-list:
	// one 40-digit account id a line, optionally followed by the one name that
	// account may take; # begins a comment. Read again on SIGHUP. No default.
	AllowList string `yaml:"allow_list"`
	// Unicode allows names beyond ASCII. Default false. Clients of 2023 cannot
	// look such names up, and turning it off again does not remove them.
	Unicode bool `yaml:"unicode"`
	// MinLength is the fewest characters of a name, 1–64. Default 3, which is
	// also the fewest that clients of 2023 can ask for.
	MinLength int `yaml:"min_length"`
	// MaxLength is the most characters of a name, 1–64. Default 32, the most
	// that clients of 2023 can ask for.
	MaxLength int `yaml:"max_length"`
	// Confusables refuses names that look like a registered one ("pau1" for
	// "paul"). Default true. What was registered while it was off stays.
	Confusables bool `yaml:"confusables"`
	// Reserved are names nobody may register. Default: a handful that people
	// take for the operator.
	Reserved []string `yaml:"reserved"`
	// RateBurst is how many registrations one network may send at once in
	// mode open, 1–100000. Default 30: a classroom behind one address.
	RateBurst int `yaml:"rate_burst"`
	// RateInterval is the time after which one network may send one more.
	// Default 1m. Zero means no limit.
	RateInterval time.Duration `yaml:"rate_interval"`
	// RatePrefix4 is how many leading bits of an IPv4 address name a network,
	// 8–32. Default 32.
	RatePrefix4 int `yaml:"rate_prefix4"`
	// RatePrefix6 is how many leading bits of an IPv6 address name a network,
	// 16–128. Default 56, what one household gets.
	RatePrefix6 int `yaml:"rate_prefix6"`
	// RateExempt are networks without a rate limit, such as the operator's own
	// provisioning host. Default none.
	RateExempt []netip.Prefix `yaml:"rate_exempt"`
}

// Default returns the policy of a server nobody configured: ASCII names, and
// the mode for the server to choose.
func Default() Config {
	return Config{
		MinLength: 3, MaxLength: 32, Confusables: true,
		Reserved: []string{
			"abuse", "admin", "administrator", "help", "hostmaster", "info", "jami",
			"moderator", "noreply", "operator", "postmaster", "root", "security",
			"support", "system", "webmaster",
		},
		RateBurst: 30, RateInterval: time.Minute, RatePrefix4: 32, RatePrefix6: 56,
	}
}

// maxNameLength bounds MaxLength: no interface shows longer names.
const maxNameLength = 64

// Check calls report for every problem, with the key it is under.
func (c Config) Check(report func(key, format string, args ...any)) {
	if !slices.Contains([]Mode{ModeOpen, ModeInvite, ModeAllowList, ModeClosed}, c.Mode) {
		report("mode", "%q is none of open, invite, allow-list, closed", c.Mode)
	}
	if c.Mode == ModeAllowList && c.AllowList == "" {
		report("allow_list", "mode allow-list needs a file")
	}
	inRange := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			report(key, "%d is outside %d–%d", v, lo, hi)
		}
	}
	inRange("min_length", c.MinLength, 1, maxNameLength)
	inRange("max_length", c.MaxLength, max(1, c.MinLength), maxNameLength)
	inRange("rate_burst", c.RateBurst, 1, 100_000)
	inRange("rate_prefix4", c.RatePrefix4, 8, 32)
	inRange("rate_prefix6", c.RatePrefix6, 16, 128)
	if c.RateInterval < 0 {
		report("rate_interval", "%v is negative", c.RateInterval)
	}
	for i, name := range c.Reserved {
		if _, err := c.names().Key(name); err != nil {
			report(fmt.Sprintf("reserved[%d]", i), "%v", err)
		}
	}
}

func (c Config) names() Names {
	return Names{Unicode: c.Unicode, MinLength: c.MinLength, MaxLength: c.MaxLength}
}
