//go:build linux

package firstlight

import (
	"flag"
	"fmt"
	"maps"
	"strings"
	"testing"
)

var serversFlag = flag.String("servers", "jirani", "whose servers: jirani, up or upstream; or by role, as in upstream,names=jirani")

// Whose servers.
const (
	ours     = "jirani"   // this module's separate binaries
	upstream = "upstream" // Debian's programs
	inOne    = "up"       // this module's all-in-one
)

// choice says for each role, dht, names and turn, whose server it is: ours or upstream. An empty one is inOne.
type choice map[string]string

// parseChoice reads a list such as "jirani" or "upstream,names=jirani", in which later items win.
func parseChoice(text string) (choice, error) {
	if text == inOne {
		return choice{}, nil
	}
	c := choice{"dht": "", "names": "", "turn": ""}
	for item := range strings.SplitSeq(text, ",") {
		role, whose, one := strings.Cut(item, "=")
		if !one {
			role, whose = "", item
		}
		if _, known := c[role]; role != "" && !known || whose != ours && whose != upstream {
			return nil, fmt.Errorf("%q is none of %s, %s, %s, or dht|names|turn=%s|%s", item, ours, inOne, upstream, ours, upstream)
		}
		for r := range maps.Keys(c) {
			if role == "" || role == r {
				c[r] = whose
			}
		}
	}
	for r, whose := range c {
		if whose == "" {
			return nil, fmt.Errorf("whose %s?", r)
		}
	}
	return c, nil
}

func TestParseChoice(t *testing.T) {
	for text, want := range map[string]choice{
		"up":                    {},
		"jirani":                {"dht": ours, "names": ours, "turn": ours},
		"upstream,names=jirani": {"dht": upstream, "names": ours, "turn": upstream},
		"jirani,turn=upstream":  {"dht": ours, "names": ours, "turn": upstream},
		"names=jirani":          nil,
		"theirs":                nil,
		"jirani,mail=upstream":  nil,
		"jirani,turn=up":        nil,
	} {
		got, err := parseChoice(text)
		if (err == nil) != (want != nil) || !maps.Equal(got, want) && want != nil {
			t.Errorf("parseChoice(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}
