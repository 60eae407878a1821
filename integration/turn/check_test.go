package turn

import (
	"maps"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/jirani/jirani/peer/doctor"
	"github.com/jirani/jirani/peer/turnclient"
)

// TestCheckFromOutside checks a server from homes and LANs where something is in the way, and wants it named.
func TestCheckFromOutside(t *testing.T) {
	natlab.Require(t)
	binary := program.Build(t, "jirani-turnserver")
	type found map[string]doctor.Problem // by step
	type check struct {
		transport turnclient.Transport
		nat       string
		want      found
	}
	for _, tt := range []struct {
		topology natlab.Topology
		server   netip.Addr
		policy   string
		checks   []check
	}{
		{natlab.TwoHomes("chksym", natlab.Home{NAT: natlab.Symmetric}), natlab.ServerAddr, "policy.lan=false", []check{
			{turnclient.UDP, "translated", found{}}, {turnclient.TCP, "translated", found{}}}},
		{natlab.TwoHomes("chknoudp", natlab.Home{NAT: natlab.Symmetric, BlockUDP: true}), natlab.ServerAddr, "policy.lan=false", []check{
			{turnclient.UDP, "", found{"binding": doctor.NoAnswer}}, {turnclient.TCP, "translated", found{"outside": doctor.RelayUnreached}}}},
		{natlab.OneLAN("chklan"), natlab.LANServerAddr, "policy.lan=true", []check{{turnclient.TCP, "none", found{}}}},
		{natlab.OneLAN("chkclosed"), natlab.LANServerAddr, "policy.lan=false", []check{
			{turnclient.TCP, "none", found{"relay": doctor.Forbidden}}}},
	} {
		t.Run(tt.topology.Name, func(t *testing.T) {
			t.Parallel()
			lab := natlab.New(t, tt.topology)
			cmd := exec.Command(binary, "-set", `listeners=[{address: "`+tt.server.String()+`:3478", transports: [udp, tcp]}]`, "-set", "jami_user=on",
				"-set", tt.policy, "-set", "ops.listen=", "-set", "shutdown_timeout=0s")
			cmd.Dir = t.TempDir()
			if err := lab.Host("server").Start(cmd); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			alice := lab.Host("alice")
			awaitServer(t, turnclient.Server{Host: tt.server.String(), Port: 3478, Transport: turnclient.TCP}, alice.DialContext)
			for _, c := range tt.checks {
				cfg := doctor.TURNConfig{Server: turnclient.Server{Host: tt.server.String(), Port: 3478, Transport: c.transport},
					Username: "ring", Password: "ring", Timeout: 4 * time.Second, Dial: alice.DialContext}
				report := doctor.TURN(within(t), cfg)
				got := found{}
				for _, s := range report.Steps {
					if !s.OK {
						got[s.Name] = s.Problem
					}
				}
				if !maps.Equal(got, c.want) || report.NAT != c.nat || report.OK != (len(c.want) == 0) {
					t.Errorf("%v from %v: %+v; want NAT %q and %v", c.transport, alice.Addr, report, c.nat, c.want)
				}
			}
		})
	}
}
