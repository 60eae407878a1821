package natlab

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

func TestPcapFormat(t *testing.T) {
	var b bytes.Buffer
	if err := writePcapHeader(&b); err != nil {
		t.Fatal(err)
	}
	if err := writePcapPacket(&b, time.Unix(1, 2000).UTC(), []byte{0xab, 0xcd}); err != nil {
		t.Fatal(err)
	}
	want := "d4c3b2a1 0200 0400 0000000000000000 00080000 01000000" + // magic, 2.4, zone and accuracy, snap length, Ethernet
		" 01000000 02000000 02000000 02000000 abcd" // seconds, microseconds, length kept, length
	if got := hex.EncodeToString(b.Bytes()); got != stripSpaces(want) {
		t.Errorf("file = %s, want %s", got, want)
	}
}

func TestPcapCutsLongPackets(t *testing.T) {
	var b bytes.Buffer
	if err := writePcapPacket(&b, time.Unix(0, 0), make([]byte, 65000)); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 16+snapLen {
		t.Errorf("%d bytes written, want %d", b.Len(), 16+snapLen)
	}
}

func stripSpaces(s string) string { return string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)) }

func TestInDatagrams(t *testing.T) {
	const table = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts\nUdp: 42 7\nUdpLite: InDatagrams\nUdpLite: 9\n"
	if n, err := inDatagrams(table); n != 42 || err != nil {
		t.Errorf("inDatagrams() = %d, %v, want 42", n, err)
	}
	for _, bad := range []string{"", "Udp: InDatagrams", "Udp: InDatagrams NoPorts\nUdp: x 7\n"} {
		if n, err := inDatagrams(bad); err == nil {
			t.Errorf("inDatagrams(%q) = %d, want an error", bad, n)
		}
	}
}
