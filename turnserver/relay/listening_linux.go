package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Listening reports whether some process has a UDP socket on exactly addr that is not connected, and so takes what comes from anybody. It
// reads the kernel's table (proc(5), /proc/net/udp); without one the answer is yes.
func Listening(addr netip.AddrPort) bool {
	path := "/proc/thread-self/net/udp"
	if addr.Addr().Is6() {
		path += "6"
	}
	table, err := os.ReadFile(path)
	return err != nil || listens(string(table), addr)
}

// listens looks for a line whose local address is addr and whose state is unconnected: "slot: local remote state …".
func listens(table string, addr netip.AddrPort) bool {
	const unconnected = "07" // TCP_CLOSE
	want := tableAddress(addr)
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == want && f[3] == unconnected {
			return true
		}
	}
	return false
}

// tableAddress writes an address as the table has it: words of 32 bits as the machine holds them, and the port, in hexadecimal.
func tableAddress(addr netip.AddrPort) string {
	var s strings.Builder
	for b := addr.Addr().AsSlice(); len(b) > 0; b = b[4:] {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(b))
	}
	fmt.Fprintf(&s, ":%04X", addr.Port())
	return s.String()
}
