package turnserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// proxyV2 begins a PROXY protocol header of version 2; one of version 1 begins with "PROXY ".
var proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

const (
	maxProxyV1 = 107 // bytes, line end included
	maxProxyV2 = 536 // bytes after the fixed 16; addresses and some type-length-values
)

var errProxyHeader = errors.New("turnserver: not a PROXY protocol header")

// readProxyHeader takes a PROXY protocol header off conn and not a byte more. The address is not valid when the proxy speaks for itself
// (LOCAL, UNKNOWN).
func readProxyHeader(conn net.Conn, deadline time.Time) (client netip.AddrPort, err error) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return netip.AddrPort{}, err
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil {
		return netip.AddrPort{}, err
	}
	if bytes.Equal(head, proxyV2) {
		return readProxyV2(conn)
	}
	if !bytes.HasPrefix(head, []byte("PROXY ")) {
		return netip.AddrPort{}, errProxyHeader
	}
	return readProxyV1(conn, head)
}

func readProxyV1(r io.Reader, line []byte) (netip.AddrPort, error) {
	var one [1]byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxProxyV1 {
			return netip.AddrPort{}, errProxyHeader
		}
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return netip.AddrPort{}, err
		}
		line = append(line, one[0])
	}
	f := strings.Fields(string(line))
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.AddrPort{}, errProxyHeader
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(f[2], f[4]))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %v", errProxyHeader, err)
	}
	return unmap(addr), nil
}

// readProxyV2 reads what follows the signature: version and command, family, length, addresses.
func readProxyV2(r io.Reader) (netip.AddrPort, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, err
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if fixed[0]>>4 != 2 || n > maxProxyV2 {
		return netip.AddrPort{}, errProxyHeader
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case fixed[0]&0x0f == 0: // LOCAL
		return netip.AddrPort{}, nil
	case fixed[1] == 0x11 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:])), nil
	case fixed[1] == 0x21 && n >= 36:
		return unmap(netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[32:]))), nil
	}
	return netip.AddrPort{}, errProxyHeader
}
