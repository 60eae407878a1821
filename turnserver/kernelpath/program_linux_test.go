package kernelpath

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

var (
	testChannel = Channel{
		Client: netip.MustParseAddrPort("192.0.2.7:40001"), Server: netip.MustParseAddrPort("203.0.113.5:3478"),
		Relayed: netip.MustParseAddrPort("203.0.113.5:50123"), Peer: netip.MustParseAddrPort("198.51.100.9:4567"), Number: 0x4321,
	}
	testMTU = 1500
)

// openPath loads the program, or says why it cannot be tried here.
func openPath(t testing.TB) *Path {
	t.Helper()
	p, err := Open()
	if errors.Is(err, os.ErrPermission) && os.Getenv("JIRANI_REQUIRE") != "1" {
		t.Skipf("missing: privilege to load BPF programs (%v)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Renew(time.Hour)
	return p
}

// carry puts testChannel into the maps, past the routes, which this host has not.
func carry(t testing.TB, p *Path, until time.Time) *Flow {
	t.Helper()
	f := &Flow{path: p}
	f.up.key, f.up.rule = testChannel.up()
	f.down.key, f.down.rule = testChannel.down()
	if !p.takeSlots(f) {
		t.Fatal("no slots")
	}
	for _, l := range f.legs() {
		l.rule.Interface, l.rule.MTU, l.rule.Deadline = 1, uint32(testMTU), p.deadline(until)
		if err := p.put(l); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// datagram is a frame with UDP over IPv4, correct in every field.
func datagram(from, to netip.AddrPort, ttl byte, data []byte) []byte {
	b := make([]byte, payloadAt, payloadAt+len(data))
	b[12], b[13] = 0x08, 0x00
	ip, udp := b[ethernetSize:udpAt], b[udpAt:payloadAt]
	ip[0], ip[1], ip[ipTTL], ip[ipProtocol] = 0x45, 0xb8, ttl, protocolUDP
	binary.BigEndian.PutUint16(ip[ipTotal:], uint16(ipSize+udpSize+len(data)))
	binary.BigEndian.PutUint16(ip[ipID:], 0x1234)
	binary.BigEndian.PutUint16(ip[ipFragment:], dontFragment)
	copy(ip[ipSource:], from.Addr().AsSlice())
	copy(ip[ipDest:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(udpSize+len(data)))
	b = append(b, data...)
	seal(b)
	return b
}

// seal writes the checksums.
func seal(b []byte) {
	ip := b[ethernetSize:]
	binary.BigEndian.PutUint16(ip[ipCheck:], 0)
	binary.BigEndian.PutUint16(ip[ipCheck:], ^sum(0, ip[:ipSize]))
	binary.BigEndian.PutUint16(b[checkAt:], 0)
	check := ^sum(pseudo(b), b[udpAt:])
	if check == 0 {
		check = 0xFFFF // RFC 768: zero means that there is none
	}
	binary.BigEndian.PutUint16(b[checkAt:], check)
}

// pseudo is the sum of the pseudo header.
func pseudo(b []byte) uint32 {
	ip := b[ethernetSize:]
	return uint32(sum(protocolUDP+uint32(binary.BigEndian.Uint16(ip[udpLength:])), ip[ipSource:ipSize]))
}

// sum is the one's complement sum of RFC 1071.
func sum(start uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		start += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		start += uint32(b[0]) << 8
	}
	for start > 0xFFFF {
		start = start>>16 + start&0xFFFF
	}
	return uint16(start)
}

func channelData(number uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// run gives the program a frame.
func run(t testing.TB, p *Path, frame []byte, ctx any) (verdict int32, out []byte) {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Context: ctx}
	v, err := p.program.Run(&opts)
	if err != nil {
		t.Fatalf("run %d bytes: %v", len(frame), err)
	}
	return int32(v), opts.DataOut
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// TestRelays sends data of every length up and down, and wants what user space would have sent.
func TestRelays(t *testing.T) {
	p := openPath(t)
	f := carry(t, p, time.Now().Add(time.Hour))
	var packets, bytes uint64
	for n := 1; n <= testMTU-ipSize-udpSize-channelSize; n++ {
		data := random(n)
		up := datagram(testChannel.Client, testChannel.Server, 64, channelData(testChannel.Number, data))
		verdict, out := run(t, p, up, nil)
		if want := datagram(testChannel.Relayed, testChannel.Peer, 63, data); verdict != verdictRedirect || !cmp.Equal(out, want) {
			t.Fatalf("up, %d bytes: verdict %d (-want +got):\n%s", n, verdict, cmp.Diff(want, out))
		}
		packets, bytes = packets+1, bytes+uint64(n)
		if n < channelSize {
			continue // shorter than the program looks at
		}
		down := datagram(testChannel.Peer, testChannel.Relayed, 64, data)
		verdict, out = run(t, p, down, nil)
		want := datagram(testChannel.Server, testChannel.Client, 63, channelData(testChannel.Number, data))
		if verdict != verdictRedirect || !cmp.Equal(out, want) {
			t.Fatalf("down, %d bytes: verdict %d (-want +got):\n%s", n, verdict, cmp.Diff(want, out))
		}
	}
	up, down := f.Take()
	if want := (Traffic{packets, bytes}); up != want {
		t.Errorf("counted up %+v, want %+v", up, want)
	}
	if want := (Traffic{packets - 3, bytes - 1 - 2 - 3}); down != want {
		t.Errorf("counted down %+v, want %+v", down, want)
	}
	if up, down := f.Take(); up != (Traffic{}) || down != (Traffic{}) {
		t.Errorf("counted twice: %+v, %+v", up, down)
	}
}

// TestAbsentChecksum: a packet without a UDP checksum stays without.
func TestAbsentChecksum(t *testing.T) {
	p := openPath(t)
	carry(t, p, time.Now().Add(time.Hour))
	in := datagram(testChannel.Client, testChannel.Server, 64, channelData(testChannel.Number, []byte("hello")))
	in[checkAt], in[checkAt+1] = 0, 0
	want := datagram(testChannel.Relayed, testChannel.Peer, 63, []byte("hello"))
	want[checkAt], want[checkAt+1] = 0, 0
	if verdict, out := run(t, p, in, nil); verdict != verdictRedirect || !cmp.Equal(out, want) {
		t.Errorf("verdict %d (-want +got):\n%s", verdict, cmp.Diff(want, out))
	}
}
