//go:build linux

package firstlight

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/jirani/jirani/integration/jamid"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	for _, err := range []error{times.report(), notes.report(), goleak.Find()} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "firstlight:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// world is one of the six small internets.
type world struct {
	topology natlab.Topology
	// discovery: the accounts have no bootstrap node in their settings and find the server by LAN discovery.
	discovery bool
	// relayed: no connection between the devices outlives the relay.
	relayed bool
}

func worlds() []world {
	return []world{
		{topology: natlab.TwoPublic("open")},
		{topology: natlab.TwoHomes("cone", natlab.Home{NAT: natlab.EndpointIndependent}), relayed: true},
		{topology: natlab.TwoHomes("symmetric", natlab.Home{NAT: natlab.Symmetric}), relayed: true},
		{topology: natlab.TwoHomes("relay-only", natlab.Home{
			NAT: natlab.AddressAndPortDependent, OnlyTo: []netip.Addr{natlab.ServerAddr}}), relayed: true},
		{topology: natlab.OneLAN("lan-discovery"), discovery: true},
		{topology: natlab.OneLAN("lan-offline")},
	}
}

// TestFirstLight is the suite: every step in every world. A world in which the client crashed (seen once in some hundred
// evenings; it is upstream's) is lived through once more, and the crash is told at the end of the run.
func TestFirstLight(t *testing.T) {
	natlab.Require(t, jamid.Program, "dbus-daemon")
	for _, w := range worlds() {
		t.Run(w.topology.Name, func(t *testing.T) {
			t.Parallel()
			if crash := newEvening(t, w).run(true); crash != nil {
				t.Run("again", func(t *testing.T) { newEvening(t, w).run(false) })
			}
		})
	}
}
