package kernelpath

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// skb is struct __sk_buff as far as a test run takes it.
type skb struct {
	_       [skbGSOSize]byte
	GSOSize uint32
	_       [12]byte
}

// model says what the program is to make of a frame, from the package comment and nothing else: the packet that leaves, or nil when the
// frame passes.
func model(b []byte) []byte {
	c := testChannel
	if len(b) < ethernetSize+headSize || b[12] != 0x08 || b[13] != 0x00 || !bytes.Equal(b[:6], make([]byte, 6)) {
		return nil
	}
	ip, udp := b[ethernetSize:udpAt], b[udpAt:]
	total, length := int(binary.BigEndian.Uint16(ip[ipTotal:])), int(binary.BigEndian.Uint16(udp[4:]))
	switch {
	case ip[0] != 0x45, ip[ipProtocol] != protocolUDP, binary.BigEndian.Uint16(ip[ipFragment:])&^dontFragment != 0, ip[ipTTL] <= 1:
		return nil
	case total != length+ipSize, total != len(b)-ethernetSize:
		return nil
	}
	data := b[payloadAt:]
	matches := func(k flowKey) bool {
		return bytes.Equal(k.Source[:], ip[ipSource:ipDest]) && bytes.Equal(k.Dest[:], ip[ipDest:]) &&
			bytes.Equal(k.SourcePort[:], udp[:2]) && bytes.Equal(k.DestPort[:], udp[2:4])
	}
	up, _ := c.up()
	down, _ := c.down()
	var out []byte
	switch {
	case matches(up) && binary.BigEndian.Uint16(data) == c.Number:
		if n := len(data) - channelSize; n < 1 || n > maxData || int(binary.BigEndian.Uint16(data[2:])) != n {
			return nil
		}
		out = datagram(c.Relayed, c.Peer, ip[ipTTL]-1, data[channelSize:])
	case matches(down):
		if len(data) > maxData || total+channelSize > testMTU {
			return nil
		}
		out = datagram(c.Server, c.Client, ip[ipTTL]-1, channelData(c.Number, data))
	default:
		return nil
	}
	out[ethernetSize+1] = ip[1]
	copy(out[ethernetSize+ipID:], ip[ipID:ipFragment])
	copy(out[6:12], b[6:12])
	seal(out)
	return out
}

// check compares the program with the model. A frame may come with any UDP checksum: one that was wrong stays wrong by the same difference.
func check(t *testing.T, p *Path, frame []byte) (relayed bool) {
	t.Helper()
	verdict, out := run(t, p, frame, nil)
	want := model(frame)
	switch {
	case want == nil:
		if verdict != verdictNext || !bytes.Equal(out, frame) {
			t.Fatalf("verdict %d, want the frame passed as it was:\n% x\n% x", verdict, frame, out)
		}
		return false
	case verdict != verdictRedirect:
		t.Fatalf("verdict %d, want it relayed:\n% x", verdict, frame)
	}
	sound := sum(pseudo(frame), frame[udpAt:]) == 0xFFFF
	if !sound { // the sum of what leaves has to differ from the right one as it did before
		if off := binary.BigEndian.Uint16(frame[checkAt:]); off == 0 {
			want[checkAt], want[checkAt+1] = 0, 0
		} else if sum(pseudo(frame), frame[udpAt:]) != sum(pseudo(out), out[udpAt:]) {
			t.Fatalf("a wrong checksum was mended:\n% x\n% x", frame, out)
		} else {
			copy(want[checkAt:], out[checkAt:checkAt+2])
		}
	}
	if !bytes.Equal(out, want) {
		t.Fatalf("(-want +got):\n%s", cmp.Diff(want, out))
	}
	return true
}

// good returns the frames that mutations begin with.
func good() [][]byte {
	up := datagram(testChannel.Client, testChannel.Server, 64, channelData(testChannel.Number, random(172)))
	down := datagram(testChannel.Peer, testChannel.Relayed, 64, random(172))
	like := datagram(testChannel.Peer, testChannel.Relayed, 64, channelData(testChannel.Number, random(60))) // data that looks like a channel's
	return [][]byte{up, down, like}
}

// TestPasses changes one thing of a good frame at a time.
func TestPasses(t *testing.T) {
	p := openPath(t)
	f := carry(t, p, time.Now().Add(time.Hour))
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at:], v); return b }
	}
	put8 := func(at int, v byte) func([]byte) []byte { return func(b []byte) []byte { b[at] = v; return b } }
	ip := func(at int) int { return ethernetSize + at }
	for name, change := range map[string]func([]byte) []byte{
		"another protocol":         put16(12, 0x86DD),
		"a VLAN tag":               func(b []byte) []byte { return append(append(bytes.Clone(b[:12]), 0x81, 0, 0, 5), b[12:]...) },
		"another host's":           put8(0, 2),
		"a group's":                put8(0, 1),
		"version 6":                put8(ip(0), 0x65),
		"IP options":               func(b []byte) []byte { b[ip(0)] = 0x46; return b },
		"a short header":           put8(ip(0), 0x44),
		"a first fragment":         put16(ip(ipFragment), 0x2000),
		"a later fragment":         put16(ip(ipFragment), 0x0010),
		"the evil bit":             put16(ip(ipFragment), 0x8000),
		"TCP":                      put8(ip(ipProtocol), 6),
		"TTL 0":                    put8(ip(ipTTL), 0),
		"TTL 1":                    put8(ip(ipTTL), 1),
		"total too long":           put16(ip(ipTotal), 1000),
		"total too short":          put16(ip(ipTotal), 40),
		"UDP length too long":      put16(udpAt+4, 1000),
		"UDP length too short":     put16(udpAt+4, 8),
		"UDP length 0":             put16(udpAt+4, 0),
		"another source":           put8(ip(ipSource), 9),
		"another destination":      put8(ip(ipDest), 9),
		"another source port":      put16(udpAt, 9),
		"another destination port": put16(udpAt+2, 9),
		"Ethernet padding":         func(b []byte) []byte { return append(b, 0, 0, 0, 0) },
		"cut":                      func(b []byte) []byte { return b[:len(b)-1] },
		"headers only":             func(b []byte) []byte { return b[:payloadAt] },
		"an IP header only":        func(b []byte) []byte { return b[:udpAt] },
	} {
		for i, frame := range good() {
			atomicZero(&p.slots[f.up.rule.Slot].hold)
			atomicZero(&p.slots[f.down.rule.Slot].hold)
			if check(t, p, change(frame)) {
				t.Errorf("%s: frame %d was relayed", name, i)
			}
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"another channel":       put16(payloadAt, testChannel.Number+1),
		"a STUN message":        put16(payloadAt, 1),
		"data length too long":  put16(payloadAt+2, 173),
		"data length too short": put16(payloadAt+2, 171), // RFC 8656 §12.5 lets a client pad
		"no data": func([]byte) []byte {
			return datagram(testChannel.Client, testChannel.Server, 64, channelData(testChannel.Number, nil))
		},
	} {
		atomicZero(&p.slots[f.up.rule.Slot].hold)
		if check(t, p, change(good()[0])) {
			t.Errorf("%s: was relayed", name)
		}
	}
	if up, down := f.Take(); up != (Traffic{}) || down != (Traffic{}) {
		t.Errorf("what passes was counted: %+v, %+v", up, down)
	}
}

func atomicZero(v *uint64) { *v = 0 } // the program is run by this goroutine only

// TestTooLarge: what would not fit the way passes.
func TestTooLarge(t *testing.T) {
	p := openPath(t)
	carry(t, p, time.Now().Add(time.Hour))
	full := testMTU - ipSize - udpSize
	if check(t, p, datagram(testChannel.Peer, testChannel.Relayed, 64, random(full-channelSize+1))) {
		t.Error("grown beyond the MTU")
	}
}

// TestSegments: several datagrams in one packet pass, and those behind it for a while.
func TestSegments(t *testing.T) {
	p := openPath(t)
	f := carry(t, p, time.Now().Add(time.Hour))
	for i, frame := range good()[:2] {
		if verdict, out := run(t, p, frame, skb{GSOSize: 88}); verdict != verdictNext || !bytes.Equal(out, frame) {
			t.Errorf("frame %d with segments: verdict %d", i, verdict)
		}
		if verdict, _ := run(t, p, frame, nil); verdict != verdictNext {
			t.Errorf("frame %d overtakes the one before it: verdict %d", i, verdict)
		}
		leg := f.legs()[i]
		if left := int64(p.slots[leg.rule.Slot].hold - kernelTime()); left > int64(holdTime) {
			t.Errorf("held for %v", time.Duration(left))
		}
		atomicZero(&p.slots[leg.rule.Slot].hold)
		if verdict, _ := run(t, p, frame, nil); verdict != verdictRedirect {
			t.Errorf("frame %d after the hold: verdict %d", i, verdict)
		}
	}
}

// TestEnds: neither a flow beyond its time, nor any without a lease, nor one that was dropped is relayed.
func TestEnds(t *testing.T) {
	p := openPath(t)
	f := carry(t, p, time.Now().Add(time.Hour))
	want := func(why string, verdict int32) {
		t.Helper()
		for i, frame := range good()[:2] {
			if got, _ := run(t, p, frame, nil); got != verdict {
				t.Errorf("%s: frame %d: verdict %d, want %d", why, i, got, verdict)
			}
		}
	}
	want("live", verdictRedirect)
	if err := f.Until(time.Now().Add(-time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	want("expired", verdictNext)
	if err := f.Until(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want("prolonged", verdictRedirect)
	p.Renew(-time.Millisecond)
	want("without a lease", verdictNext)
	p.Renew(time.Minute)
	want("with a lease again", verdictRedirect)
	if up, down := f.Drop(); up.Packets != 3 || down.Packets != 3 {
		t.Errorf("relayed %+v, %+v, want 3 packets each", up, down)
	}
	want("dropped", verdictNext)
	if p.Flows() != 0 {
		t.Errorf("%d flows are left", p.Flows())
	}
}

// TestRandom compares the program with the model on frames with some bytes changed, inserted or cut off.
func TestRandom(t *testing.T) {
	p := openPath(t)
	f := carry(t, p, time.Now().Add(time.Hour))
	relayed := 0
	for range 20_000 {
		frames := good()
		b := frames[rand.IntN(len(frames))]
		for range rand.IntN(3) {
			switch at := rand.IntN(len(b)); rand.IntN(5) {
			case 0:
				b = b[:max(at, udpAt)] // a test run takes no less
			case 1:
				b = append(b, random(rand.IntN(40))...)
			case 2:
				b[at] = byte(rand.Uint32())
			default: // mostly in the headers
				b[at%min(len(b), payloadAt+channelSize)] ^= 1 << rand.IntN(8)
			}
		}
		atomicZero(&p.slots[f.up.rule.Slot].hold)
		atomicZero(&p.slots[f.down.rule.Slot].hold)
		if check(t, p, b) {
			relayed++
		}
	}
	up, down := f.Take()
	if up.Packets+down.Packets != uint64(relayed) || relayed < 5_000 {
		t.Errorf("relayed %d, counted %d and %d", relayed, up.Packets, down.Packets)
	}
}
