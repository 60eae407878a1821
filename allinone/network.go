package allinone

import (
	"context"
	"fmt"
	"iter"
	"net"
	"strings"

	"github.com/jirani/jirani/allinone/card"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/hostaddr"
)

// member is one running role as people see it.
type member struct {
	label  string // on the card
	scheme string // before the address; "" for none
	port   uint16
	checks *health.Checks
}

// network is what the card shows. It is immutable but for what it asks the kernel and the roles.
type network struct {
	cfg     Config
	members map[RoleName]member
	lookup  func(ctx context.Context, name string) (string, error)
	list    func() ([]hostaddr.Address, error)
}

// Host returns the configured name, or the best address this machine has now.
func (n *network) Host() string {
	if n.cfg.Host != "" {
		return n.cfg.Host
	}
	list, err := n.list()
	if err != nil {
		return "127.0.0.1"
	}
	return hostaddr.Best(list).String()
}

func (n *network) address(r RoleName) string {
	m := n.members[r]
	return m.scheme + net.JoinHostPort(n.Host(), fmt.Sprint(m.port))
}

// addresses yields the running roles and where to reach them, in a fixed order.
func (n *network) addresses() iter.Seq2[RoleName, string] {
	return func(yield func(RoleName, string) bool) {
		for _, r := range allRoles {
			if _, ok := n.members[r]; ok && !yield(r, n.address(r)) {
				return
			}
		}
	}
}

// Sections lists Jami's advanced account settings in the order of its settings page.
func (n *network) Sections() []card.Section {
	var out []card.Section
	if _, ok := n.members[Nameserver]; ok {
		out = append(out, card.Section{Title: "Name server", Fields: []card.Field{
			{Name: "Address", Value: n.address(Nameserver), Copy: true},
		}})
	}
	if _, ok := n.members[Bootstrap]; ok {
		fields := []card.Field{
			{Name: "Enable proxy", Value: "off"},
			{Name: "Bootstrap", Value: n.address(Bootstrap), Copy: true},
		}
		if n.cfg.Bootstrap.LAN {
			fields = append(fields, card.Field{Name: "Enable local peer discovery", Value: "on", Note: "finds this network without the line above"})
		}
		out = append(out, card.Section{Title: "OpenDHT configuration", Fields: fields})
	}
	if m, ok := n.members[Turnserver]; ok {
		out = append(out, card.Section{Title: "Connectivity", Fields: n.turnFields(m)})
	}
	return out
}

// turnFields names the server without its port when it is the one clients assume.
func (n *network) turnFields(m member) []card.Field {
	address := n.Host()
	if m.port != 3478 {
		address = n.address(Turnserver)
	}
	fields := []card.Field{{Name: "Use TURN", Value: "on"}, {Name: "TURN address", Value: address, Copy: true}}
	if n.cfg.Turnserver.JamiUser == "on" {
		for _, name := range []string{"TURN username", "TURN password", "TURN realm"} {
			fields = append(fields, card.Field{Name: name, Value: "ring", Note: "Jami's own default", Copy: true})
		}
		return fields
	}
	return append(fields, card.Field{Name: "TURN realm", Value: n.cfg.Turnserver.Realms[0].Name, Note: "with the username and password you were given", Copy: true})
}

var labels = map[RoleName]string{Bootstrap: "DHT node", Nameserver: "Name server", Turnserver: "TURN relay", Push: "Push (UnifiedPush)"}

// Roles asks each role's checks.
func (n *network) Roles(ctx context.Context) []card.Role {
	var out []card.Role
	for _, r := range allRoles {
		m, ok := n.members[r]
		if !ok {
			continue
		}
		role := card.Role{Name: m.label, Address: n.address(r), Err: failing(m.checks.Run(ctx))}
		out = append(out, role)
	}
	return out
}

// failing joins what the failed checks say.
func failing(results []health.Result) string {
	var parts []string
	for _, res := range results {
		if res.Err != nil {
			parts = append(parts, res.Err.Error())
		}
	}
	return strings.Join(parts, "; ")
}

// LookupName asks the network's own name server.
func (n *network) LookupName(ctx context.Context, name string) (string, error) {
	if n.lookup == nil {
		return "", card.ErrNoSuchName
	}
	return n.lookup(ctx, name)
}
