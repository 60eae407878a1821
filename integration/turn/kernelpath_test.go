package turn

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
	"github.com/jirani/jirani/turnserver"
	"golang.org/x/sys/unix"
)

const kernelOps = "127.0.0.1:9604"

// kernelLab is the real program on a LAN of its own, relaying in the kernel, with a client and a peer.
type kernelLab struct {
	server, alice, bob *natlab.Machine
	binary             string
}

// TestKernelPath tries the data path in the kernel, each time on a LAN of its own.
func TestKernelPath(t *testing.T) {
	natlab.Require(t)
	binary := program.Build(t, "jirani-turnserver")
	for _, tt := range []struct {
		name string
		try  func(*testing.T, *kernelLab)
	}{
		{"every length", kernelLengths},
		{"segments", kernelSegments},
		{"stalled and killed", kernelStalls},
		{"next server", kernelNextServer},
		{"privilege", kernelPrivilege},
		{"coturn", kernelCoturn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lab := natlab.New(t, natlab.OneLAN("turnkernel"))
			tt.try(t, &kernelLab{server: lab.Host("server"), alice: lab.Host("alice"), bob: lab.Host("bob"), binary: binary})
		})
	}
}

// command is the program by way of another, if one is named.
func (k *kernelLab) command(t *testing.T, mode, ops string, through ...string) *exec.Cmd {
	args := append(through, k.binary, "-set", `listeners=[{address: "0.0.0.0:3478", transports: [udp, tcp]}]`, "-set", "jami_user=on",
		"-set", "policy.lan=true", "-set", "relay.legacy_channels=true", "-set", "ops.listen="+ops, "-set", "shutdown_timeout=5m",
		"-set", "relay.kernel_path="+mode)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = t.TempDir()
	return cmd
}

// start runs the program until the test ends, and waits for its operations listener.
func (k *kernelLab) start(t *testing.T, mode, ops string, through ...string) *exec.Cmd {
	t.Helper()
	cmd := k.command(t, mode, ops, through...)
	if err := k.server.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	until(t, "the server answers", func() error { return k.get(ops, "/healthz", nil) })
	return cmd
}

// get reads a page of the operations listener.
func (k *kernelLab) get(ops, path string, into any) error {
	client := &http.Client{Transport: &http.Transport{DialContext: k.server.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + ops + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

func (k *kernelLab) state(t *testing.T) (page turnserver.KernelPath) {
	t.Helper()
	if err := k.get(kernelOps, "/v1/kernel_path", &page); err != nil {
		t.Fatal(err)
	}
	return page
}

// attached is how many programs look at what comes in by the server's interface.
func (k *kernelLab) attached(t *testing.T) (n int) {
	t.Helper()
	err := k.server.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			n = len(q.Programs)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// until tries again and again, for addressPatience.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(addressPatience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

// channelLane is a client of the kernel's path: a socket of the client with a bound channel, and the peer's socket. It speaks ChannelData by
// itself, so that nothing stands between the test and the wire.
type channelLane struct {
	near, far *net.UDPConn
	relayed   netip.AddrPort
	number    uint16
	close     func() // ends the allocation
}

// open allocates and binds a channel.
func (k *kernelLab) open(t *testing.T) *channelLane {
	t.Helper()
	far, err := k.bob.ListenPacket(netip.AddrPortFrom(k.bob.Addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	near, err := k.alice.ListenPacket(netip.AddrPortFrom(k.alice.Addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, near, netip.AddrPortFrom(natlab.LANServerAddr, 3478))
	l := &channelLane{near: near, far: far, number: 0x4001}
	l.relayed = c.allocate()
	c.bind(l.number, far.LocalAddr().(*net.UDPAddr).AddrPort())
	l.close = func() { c.refresh(0) }
	return l
}

// up sends data to the peer and wants it there as it was; down the other way.
func (l *channelLane) up(data []byte) error {
	frame := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, l.number), uint16(len(data)))
	if _, err := l.near.WriteToUDPAddrPort(append(frame, data...), netip.AddrPortFrom(natlab.LANServerAddr, 3478)); err != nil {
		return err
	}
	return expect(l.far, l.relayed, data)
}

func (l *channelLane) down(data []byte) error {
	if _, err := l.far.WriteToUDPAddrPort(data, l.relayed); err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, l.number), uint16(len(data)))
	return expect(l.near, netip.AddrPortFrom(natlab.LANServerAddr, 3478), append(frame, data...))
}

// expect reads one datagram.
func expect(conn *net.UDPConn, from netip.AddrPort, want []byte) error {
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 4096)
	n, src, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port()); src != from || !bytes.Equal(buf[:n], want) {
		return fmt.Errorf("%d bytes from %v, want %d from %v", n, src, len(want), from)
	}
	return nil
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// kernelLengths relays data of all lengths both ways in the kernel, counts it, and ends it with its allocation.
func kernelLengths(t *testing.T, k *kernelLab) {
	k.start(t, "require", kernelOps)
	for _, offload := range []bool{true, false} {
		t.Run(fmt.Sprintf("checksum offload %v", offload), func(t *testing.T) {
			for _, m := range []*natlab.Machine{k.alice, k.bob} {
				checksums(t, m, offload)
			}
			l := k.open(t)
			before := k.state(t)
			if before.State != "active" || before.Channels != 1 || strings.Join(before.Interfaces, " ") != "eth0" {
				t.Fatalf("state %+v", before)
			}
			var packets, volume uint64
			for n := 1; n <= 1472; n += 1 + n/16 { // beyond 1468 what goes to the client has to be cut in two, in user space
				data := noise(n)
				if err := l.up(data); err != nil {
					t.Fatalf("up, %d bytes: %v", n, err)
				}
				if err := l.down(data); err != nil {
					t.Fatalf("down, %d bytes: %v", n, err)
				}
				packets, volume = packets+1, volume+uint64(n)
			}
			k.counted(t, l, packets, volume)
			after := k.state(t) // a server that is starved for seconds loses its lease: some packets may have come through user space
			if up, down := after.PacketsUp-before.PacketsUp, after.PacketsDown-before.PacketsDown; up < packets/2 || down < packets/2 {
				t.Errorf("of %d packets each way the kernel relayed %d and %d", packets, up, down)
			}
			l.close()
			if n := k.state(t).Channels; n != 0 {
				t.Errorf("%d channels are relayed after the end of the allocation", n)
			}
			l.mute(t)
		})
	}
}

// counted wants the operator's view of the allocation to have exactly what was sent each way.
func (k *kernelLab) counted(t *testing.T, l *channelLane, packets, volume uint64) {
	t.Helper()
	var page turnserver.SessionPage
	if err := k.get(kernelOps, "/v1/sessions", &page); err != nil {
		t.Fatal(err)
	}
	for _, s := range page.Sessions {
		if s.Client != l.near.LocalAddr().(*net.UDPAddr).AddrPort() {
			continue
		}
		if s.PacketsUp != packets || s.PacketsDown != packets || s.BytesUp != volume || s.BytesDown != volume {
			t.Errorf("counted %d and %d packets, %d and %d bytes, want %d and %d each", s.PacketsUp, s.PacketsDown, s.BytesUp, s.BytesDown, packets, volume)
		}
		return
	}
	t.Error("the allocation is not in the list")
}

// mute wants nothing to come through.
func (l *channelLane) mute(t *testing.T) {
	t.Helper()
	for range 3 {
		l.far.WriteToUDPAddrPort([]byte("anybody there?"), l.relayed)
	}
	l.near.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, from, err := l.near.ReadFromUDPAddrPort(make([]byte, 4096)); err == nil {
		t.Errorf("%d bytes from %v after the end", n, from)
	}
}

// kernelSegments sends trains that the virtual cards do not cut: each datagram arrives once, whole, and with its header.
func kernelSegments(t *testing.T, k *kernelLab) {
	k.start(t, "require", kernelOps)
	l := k.open(t)
	const count, size = 8, 300
	var frames, plain []byte
	for range count {
		data := noise(size)
		plain = append(plain, data...)
		frames = binary.BigEndian.AppendUint16(frames, l.number)
		frames = append(binary.BigEndian.AppendUint16(frames, size), data...)
	}
	segment(t, l.near, 4+size)
	if _, err := l.near.WriteToUDPAddrPort(frames, netip.AddrPortFrom(natlab.LANServerAddr, 3478)); err != nil {
		t.Fatal(err)
	}
	segment(t, l.far, size)
	if _, err := l.far.WriteToUDPAddrPort(plain, l.relayed); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := expect(l.far, l.relayed, plain[i*size:][:size]); err != nil {
			t.Errorf("up, datagram %d: %v", i, err)
		}
		if err := expect(l.near, netip.AddrPortFrom(natlab.LANServerAddr, 3478), frames[i*(4+size):][:4+size]); err != nil {
			t.Errorf("down, datagram %d: %v", i, err)
		}
	}
	k.counted(t, l, count, count*size)
}

// segment has the kernel cut what is written (UDP_SEGMENT).
func segment(t *testing.T, conn *net.UDPConn, size int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if err != nil {
		t.Fatal(err)
	}
}

// kernelStalls: a server that hangs relays no longer than its lease, and one that is killed leaves nothing behind.
func kernelStalls(t *testing.T, k *kernelLab) {
	cmd := k.start(t, "require", kernelOps)
	l := k.open(t)
	if err := l.up([]byte("before")); err != nil {
		t.Fatal(err)
	}
	if n := k.attached(t); n != 1 {
		t.Fatalf("%d programs are attached, want 1", n)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "a stalled server's relay ends", func() error {
		l.far.WriteToUDPAddrPort([]byte("anybody there?"), l.relayed)
		l.near.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, _, err := l.near.ReadFromUDPAddrPort(make([]byte, 4096)); err == nil {
			return errors.New("still relayed")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	until(t, "the program goes with its process", func() error {
		if n := k.attached(t); n != 0 {
			return fmt.Errorf("%d are attached", n)
		}
		return nil
	})
	l.mute(t)
}

// kernelNextServer: a server that stops relays its old clients in the kernel while the next one serves new ones.
func kernelNextServer(t *testing.T, k *kernelLab) {
	first := k.start(t, "require", "127.0.0.1:9614")
	old := k.open(t)
	if err := old.up([]byte("before")); err != nil {
		t.Fatal(err)
	}
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "the next server starts", func() error { // which it cannot before the first has given its address free
		cmd := k.command(t, "require", kernelOps)
		if err := k.server.Start(cmd); err != nil {
			return err
		}
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		for {
			select {
			case err := <-exited:
				return fmt.Errorf("ended: %w", err)
			case <-time.After(50 * time.Millisecond):
			}
			if k.get(kernelOps, "/healthz", nil) == nil {
				t.Cleanup(func() { cmd.Process.Kill(); <-exited })
				return nil
			}
		}
	})
	fresh := k.open(t)
	for range 3 {
		for name, l := range map[string]*channelLane{"old": old, "fresh": fresh} {
			if err := errors.Join(l.up([]byte("to the peer")), l.down([]byte("and back"))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := k.attached(t); n != 2 {
		t.Errorf("%d programs are attached, want 2", n)
	}
	old.close()
	until(t, "the old server's program goes with its last allocation", func() error {
		if n := k.attached(t); n != 1 {
			return fmt.Errorf("%d are attached", n)
		}
		return nil
	})
	if err := errors.Join(fresh.up([]byte("to the peer")), fresh.down([]byte("and back"))); err != nil {
		t.Error(err)
	}
}

// kernelPrivilege: two capabilities suffice; without them the server says so and relays in user space, or does not start.
func kernelPrivilege(t *testing.T, k *kernelLab) {
	setpriv := program.Require(t, "setpriv")
	for _, tt := range []struct{ mode, caps, state string }{
		{"require", "-all,+bpf,+net_admin", "active"},
		{"auto", "-all", "no_privilege"},
		{"off", "-all", "off"},
	} {
		cmd := k.start(t, tt.mode, kernelOps, setpriv, "--bounding-set="+tt.caps, "--inh-caps=-all")
		state := k.state(t)
		if state.State != tt.state || (tt.state == "no_privilege") != (state.Reason != "") {
			t.Errorf("%s with %s: %+v", tt.mode, tt.caps, state)
		}
		l := k.open(t)
		if err := errors.Join(l.up([]byte("to the peer")), l.down([]byte("and back"))); err != nil {
			t.Errorf("%s with %s: %v", tt.mode, tt.caps, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	cmd := k.command(t, "require", kernelOps, setpriv, "--bounding-set=-all", "--inh-caps=-all")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := k.server.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "relay.kernel_path") {
		t.Errorf("require without privilege: %v\n%s", err, out.String())
	}
}

// kernelCoturn runs coturn's client against its peer through the kernel.
func kernelCoturn(t *testing.T, k *kernelLab) {
	client, echo := program.Require(t, "turnutils_uclient"), program.Require(t, "turnutils_peer")
	k.start(t, "require", kernelOps)
	peer := exec.Command(echo, "-L", k.bob.Addr.String(), "-p", "3480")
	if err := k.bob.Start(peer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Process.Kill(); peer.Wait() })
	until(t, "the echo listens", func() error {
		if yes, err := k.bob.ListensUDP(3480); err != nil || !yes {
			return fmt.Errorf("no: %v", err)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	const messages = 50
	cmd := exec.CommandContext(ctx, client, "-u", "ring", "-w", "ring", "-e", k.bob.Addr.String(), "-r", "3480", "-p", "3478", "-n", strconv.Itoa(messages),
		"-m", "2", "-z", "5", natlab.LANServerAddr.String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := k.alice.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	all := lost.FindAllSubmatch(out.Bytes(), -1)
	if err != nil || len(all) == 0 || string(all[len(all)-1][1]) != "0" {
		t.Errorf("turnutils_uclient: %v\n%s", err, out.String())
	}
	if s := k.state(t); s.PacketsUp < messages || s.PacketsDown < messages {
		t.Errorf("the kernel relayed %d and %d packets of %d messages", s.PacketsUp, s.PacketsDown, 2*messages)
	}
}
