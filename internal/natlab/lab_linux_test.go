package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait for a packet that should come; silence is how long one that should not is waited for.
const (
	patience = 2 * time.Second
	silence  = 60 * time.Millisecond
)

// TestNATKinds is the grid: which mapping each kind shows to two servers, and whom it lets in.
func TestNATKinds(t *testing.T) {
	tests := []struct {
		home         Home
		sameMapping  bool // both server ports see one address
		letsIn       bool // a stranger reaches the mapping
		translated   bool
		reachesSecnd bool // bob, at all
	}{
		{Home{NAT: NoNAT}, true, true, false, true},
		{Home{NAT: EndpointIndependent}, true, true, true, true},
		{Home{NAT: AddressAndPortDependent}, true, false, true, true},
		{Home{NAT: Symmetric}, false, false, true, true},
		{Home{NAT: AddressAndPortDependent, OnlyTo: []netip.Addr{ServerAddr}}, true, false, true, false},
	}
	for _, tt := range tests {
		name := tt.home.NAT.String()
		if len(tt.home.OnlyTo) > 0 {
			name += " cut"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topology := TwoHomes("grid", tt.home)
			// bob stands in the open for this test, so that what arrives there is alice's router's doing alone.
			topology.Hosts[2].Network, topology.Hosts[2].Addr = "east", netip.MustParseAddr("192.0.2.30")
			topology.Hosts[2].Gateway = netip.MustParseAddr("192.0.2.1")
			if tt.home.NAT == NoNAT {
				topology = TwoPublic("grid") // private addresses have no way back without a NAT
			}
			lab := New(t, topology)
			alice := udp(t, lab, "alice", 5000)
			one, two := udp(t, lab, "server", 3001), udp(t, lab, "server", 3002)
			stranger := udp(t, lab, "bob", 4000)

			first := alice.reaches(t, one)
			second := alice.reaches(t, two)
			if (first == second) != tt.sameMapping {
				t.Errorf("mappings %v and %v, want same: %v", first, second, tt.sameMapping)
			}
			if translated := first.Addr() != lab.Host("alice").Addr; translated != tt.translated {
				t.Errorf("mapping %v, want translated: %v", first, tt.translated)
			}
			one.send(t, first, "back")
			alice.expect(t, "back")
			stranger.send(t, first, "knock")
			if got := alice.hears("knock"); got != tt.letsIn {
				t.Errorf("stranger let in: %v, want %v", got, tt.letsIn)
			}
			alice.send(t, stranger.local(), "hello")
			if got := stranger.hears("hello"); got != tt.reachesSecnd {
				t.Errorf("reaches bob: %v, want %v", got, tt.reachesSecnd)
			}
			wantStrays(t, lab)
		})
	}
}

// TestHolePunching lets both sides send first, as ICE does.
func TestHolePunching(t *testing.T) {
	for kind, want := range map[NAT]bool{AddressAndPortDependent: true, Symmetric: false} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			lab := New(t, TwoHomes("punch", Home{NAT: kind}))
			server := udp(t, lab, "server", 3000)
			alice, bob := udp(t, lab, "alice", 5000), udp(t, lab, "bob", 5001)
			a, b := alice.reaches(t, server), bob.reaches(t, server)
			alice.send(t, b, "punch")
			bob.send(t, a, "punch")
			alice.send(t, b, "through")
			if got := bob.hears("through"); got != want {
				t.Errorf("punched: %v, want %v", got, want)
			}
		})
	}
}

func TestBlockedUDPLeavesTCP(t *testing.T) {
	lab := New(t, TwoHomes("tcponly", Home{NAT: AddressAndPortDependent, BlockUDP: true}))
	alice, server := udp(t, lab, "alice", 5000), udp(t, lab, "server", 3000)
	alice.send(t, server.local(), "lost")
	if server.hears("lost") {
		t.Error("UDP came through")
	}
	ln, err := lab.Host("server").Listen(netip.AddrPortFrom(ServerAddr, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := lab.Host("alice").DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("TCP: %v", err)
	}
	conn.Close()
}

func TestLoss(t *testing.T) {
	const sent = 400
	lab := New(t, TwoHomes("lossy", Home{NAT: AddressAndPortDependent, Loss: 30}))
	alice, server := udp(t, lab, "alice", 5000), udp(t, lab, "server", 3000)
	for i := range sent {
		alice.send(t, server.local(), fmt.Sprint(i))
	}
	got := server.count()
	if got < sent/2 || got > sent*9/10 { // 0.7 ± many standard deviations
		t.Errorf("%d of %d packets came through 30 %% loss", got, sent)
	}
}

func TestStraysAreSeenAndStopped(t *testing.T) {
	lab := New(t, OneLAN("lan"))
	udp(t, lab, "alice", 5000).send(t, netip.MustParseAddrPort("8.8.8.8:53"), "out")
	want := []Stray{{Router: "gateway", From: lab.Host("alice").Addr, To: netip.MustParseAddr("8.8.8.8"), Protocol: 17, Port: 53}}
	deadline := time.Now().Add(patience)
	for {
		got, err := lab.Strays()
		if err != nil {
			t.Fatal(err)
		}
		diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Strays() (-want +got):\n%s", diff)
		}
	}
}

func TestProgramsSeeTheirMachine(t *testing.T) {
	topology := OneLAN("lan")
	topology.Hosts[1].Names = map[string]netip.Addr{"names.example": LANServerAddr}
	lab := New(t, topology)
	out := run(t, lab, "alice", "cat", "/etc/hosts", "/etc/resolv.conf", "/proc/net/fib_trie")
	for _, want := range []string{"10.77.0.20 alice", "10.77.0.10 names.example", "nameserver 127.0.0.1", "|-- 10.77.0.20"} {
		if !strings.Contains(out, want) {
			t.Errorf("program sees %q, want %q in it", out, want)
		}
	}
	if _, err := os.Stat(filepath.Join(lab.Dir, "alice.pcap")); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsPrograms(t *testing.T) {
	Require(t)
	lab, err := Build(OneLAN("lan"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := lab.Host("bob").Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Errorf("Wait() = %v, want a signal", err)
	}
}

func TestPulledCable(t *testing.T) {
	lab := New(t, TwoPublic("cable"))
	alice, server := udp(t, lab, "alice", 5000), udp(t, lab, "server", 3000)
	alice.reaches(t, server)
	if err := lab.Host("alice").SetLink(false); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.conn.WriteToUDPAddrPort([]byte("off"), server.local()); err == nil {
		t.Error("packet left a pulled cable")
	}
	if err := lab.Host("alice").SetLink(true); err != nil {
		t.Fatal(err)
	}
	alice.reaches(t, server)
}

// socket is a UDP socket in a lab.
type socket struct{ conn *net.UDPConn }

func udp(t *testing.T, lab *Lab, host string, port uint16) *socket {
	t.Helper()
	conn, err := lab.Host(host).ListenPacket(netip.AddrPortFrom(lab.Host(host).Addr, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &socket{conn: conn}
}

func (s *socket) local() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s *socket) send(t *testing.T, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := s.conn.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next packet, or false after wait.
func (s *socket) receive(wait time.Duration) (string, netip.AddrPort, bool) {
	s.conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 64)
	n, from, err := s.conn.ReadFromUDPAddrPort(b)
	return string(b[:n]), from, err == nil
}

func (s *socket) expect(t *testing.T, want string) netip.AddrPort {
	t.Helper()
	got, from, _ := s.receive(patience)
	if got != want {
		t.Fatalf("received %q, want %q", got, want)
	}
	return from
}

// reaches sends to the other socket, which must hear it, and returns where it seemed to come from. The first packets
// after a cable was plugged in may be lost to address resolution.
func (s *socket) reaches(t *testing.T, other *socket) netip.AddrPort {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := s.conn.WriteToUDPAddrPort([]byte("reach"), other.local()); err != nil {
			continue
		}
		if _, from, ok := other.receive(silence); ok {
			return from
		}
	}
	t.Fatalf("%v does not reach %v", s.local(), other.local())
	return netip.AddrPort{}
}

// hears tells whether text arrives; other packets before it are passed over.
func (s *socket) hears(text string) bool {
	for {
		got, _, ok := s.receive(silence)
		if !ok || got == text {
			return ok
		}
	}
}

// count is the number of packets until silence.
func (s *socket) count() (n int) {
	for {
		if _, _, ok := s.receive(silence); !ok {
			return n
		}
		n++
	}
}

func run(t *testing.T, lab *Lab, host, name string, args ...string) string {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout = &out
	if err := lab.Host(host).Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String()
}

func wantStrays(t *testing.T, lab *Lab, want ...Stray) {
	t.Helper()
	got, err := lab.Strays()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("Strays() = %v, want %v", got, want)
	}
}
