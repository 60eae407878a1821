package natlab

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPresetsAreValid(t *testing.T) {
	for _, topology := range []Topology{
		TwoPublic("open"),
		TwoHomes("cone", Home{NAT: AddressAndPortDependent, BlockUDP: true, Loss: 5}),
		TwoHomes("cut", Home{NAT: Symmetric, OnlyTo: []netip.Addr{ServerAddr}}),
		OneLAN("lan"),
	} {
		if err := topology.Validate(); err != nil {
			t.Errorf("Validate(%s) = %v", topology.Name, err)
		}
	}
}

func TestValidateReportsEveryMistake(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		name   string
		change func(*Topology)
		want   []string
	}{
		{"nothing there", func(t *Topology) { *t = Topology{} }, []string{"needs a network and a host"}},
		{"overlap", func(t *Topology) {
			t.Networks = append(t.Networks, Network{Name: "more", Prefix: netip.MustParsePrefix("10.0.0.0/8")})
		}, []string{"overlaps lan"}},
		{"host bits", func(t *Topology) {
			t.Networks = append(t.Networks, Network{Name: "more", Prefix: netip.MustParsePrefix("192.0.2.7/24")})
		}, []string{"without host bits"}},
		{"two of a name", func(t *Topology) {
			t.Networks = append(t.Networks, t.Networks[0])
			t.Hosts = append(t.Hosts, t.Hosts[0])
		}, []string{"network lan: described twice", "node server: described twice", "belongs to server"}},
		{"stranger", func(t *Topology) {
			t.Hosts[0].Network, t.Hosts[1].Addr, t.Hosts[2].Gateway = "moon", addr("192.0.2.1"), addr("192.0.2.2")
		}, []string{`no network "moon"`, "not in 10.77.0.0/24", `gateway 192.0.2.2 is not in network "lan"`}},
		{"long name", func(t *Topology) { t.Hosts[0].Name = "a-very-long-name" }, []string{"1–10 bytes"}},
		{"router", func(t *Topology) {
			t.Routers[0].NAT, t.Routers[0].Loss = Symmetric, 100
			t.Routers = append(t.Routers, Router{Name: "empty", NAT: 9, Uplink: "lan"})
		}, []string{"need an uplink", "loss of 100 %", "unknown NAT(9)", "needs ports"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			topology := OneLAN("lan")
			tt.change(&topology)
			err := topology.Validate()
			if err == nil {
				t.Fatal("Validate() = nil")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v, want mention of %q", err, want)
				}
			}
		})
	}
}
