package turn

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/program"
)

// clientPatience bounds one run of coturn's client; it takes some six seconds.
const clientPatience = 60 * time.Second

// peer runs coturn's echo peer on ip and returns its port.
func peer(t *testing.T, ip string) string {
	t.Helper()
	echo := program.Require(t, "turnutils_peer")
	free, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.LocalAddr().String())
	free.Close()
	cmd := exec.Command(echo, "-L", ip, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return port
}

var lost = regexp.MustCompile(`Total lost packets (\d+)`)

// TestCoturnClients runs coturn's client in each of its ways and wants every message back.
func TestCoturnClients(t *testing.T) {
	client := program.Require(t, "turnutils_uclient")
	s := serve(t)
	peer4, peer6 := peer(t, "127.0.0.1"), peer(t, "::1")
	longTerm := []string{"-u", "ring", "-w", "ring"}
	for _, tt := range []struct {
		name, transport, ip string
		args                []string
	}{
		{"udp channels", "udp", "127.0.0.1", longTerm},
		{"udp indications", "udp", "127.0.0.1", append([]string{"-s"}, longTerm...)},
		{"udp client to client", "udp", "127.0.0.1", append([]string{"-y"}, longTerm...)},
		{"udp dont-fragment", "udp", "127.0.0.1", append([]string{"-g"}, longTerm...)},
		{"udp padded channel data", "udp", "127.0.0.1", append([]string{"-D"}, longTerm...)},
		{"udp shared secret", "udp", "127.0.0.1", []string{"-u", "bob", "-W", sharedSecret}},
		{"udp ipv6", "udp", "::1", append([]string{"-x"}, longTerm...)},
		{"udp both families", "udp", "::1", append([]string{"-Z"}, longTerm...)},
		{"tcp", "tcp", "127.0.0.1", append([]string{"-t"}, longTerm...)},
		{"tcp shared secret", "tcp", "127.0.0.1", []string{"-t", "-u", "bob", "-W", sharedSecret}},
		{"tcp ipv6", "tcp", "::1", append([]string{"-t", "-x"}, longTerm...)},
		{"tls", "tls", "127.0.0.1", append([]string{"-t", "-S"}, longTerm...)},
		{"dtls", "dtls", "127.0.0.1", append([]string{"-S"}, longTerm...)},
		{"dtls ipv6", "dtls", "::1", append([]string{"-S", "-x"}, longTerm...)},
		{"tcp allocations", "tcp", "127.0.0.1", append([]string{"-T"}, longTerm...)},
		{"tcp allocations over tls", "tls", "127.0.0.1", append([]string{"-T", "-S"}, longTerm...)},
		{"tcp allocations ipv6", "tcp", "::1", append([]string{"-T", "-x"}, longTerm...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			peerPort := peer4
			if tt.ip == "::1" {
				peerPort = peer6
			}
			args := append([]string{"-p", portOf(t, s, tt.transport, tt.ip), "-e", tt.ip, "-r", peerPort, "-n", "20", "-m", "2", "-z", "5"}, tt.args...)
			ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
			defer cancel()
			out, err := exec.CommandContext(ctx, client, append(args, tt.ip)...).CombinedOutput()
			all := lost.FindAllSubmatch(out, -1)
			if err != nil || len(all) == 0 || string(all[len(all)-1][1]) != "0" {
				t.Errorf("turnutils_uclient %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}
}

// TestCoturnRefused: a wrong password and a forged secret get nowhere.
func TestCoturnRefused(t *testing.T) {
	client := program.Require(t, "turnutils_uclient")
	s := serve(t)
	for _, args := range [][]string{{"-u", "ring", "-w", "wrong"}, {"-u", "bob", "-W", "south"}} {
		args = append([]string{"-p", portOf(t, s, "udp", "127.0.0.1"), "-y", "-n", "1"}, args...)
		ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
		out, err := exec.CommandContext(ctx, client, append(args, "127.0.0.1")...).CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), "Cannot complete Allocation") {
			t.Errorf("turnutils_uclient %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestCoturnStunClient(t *testing.T) {
	client := program.Require(t, "turnutils_stunclient")
	s := serve(t)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
		out, err := exec.CommandContext(ctx, client, "-p", portOf(t, s, "udp", ip), ip).CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), "reflexive addr: "+ip) && !strings.Contains(string(out), "reflexive addr: ["+ip) {
			t.Errorf("turnutils_stunclient %s: %v\n%s", ip, err, out)
		}
	}
}
