package dht

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// NodeAddr is a node as others are told about it: its id and UDP address.
type NodeAddr struct {
	ID   InfoHash
	Addr netip.AddrPort
}

// Sizes of the compact node entries of "n4" and "n6" (§1.5):
// id (20) ‖ address (4 or 16) ‖ port (2, big-endian).
const (
	NodeLen4 = 26
	NodeLen6 = 38
)

// Append appends the compact entry of the address's family. An IPv4-mapped
// address counts as IPv4.
func (n NodeAddr) Append(dst []byte) []byte {
	dst = append(dst, n.ID[:]...)
	if ip := n.Addr.Addr().Unmap(); ip.Is4() {
		a := ip.As4()
		dst = append(dst, a[:]...)
	} else {
		a := ip.As16()
		dst = append(dst, a[:]...)
	}
	return binary.BigEndian.AppendUint16(dst, n.Addr.Port())
}

// ParseNodeAddr reads one entry of exactly NodeLen4 or NodeLen6 bytes.
func ParseNodeAddr(b []byte) (NodeAddr, error) {
	if len(b) != NodeLen4 && len(b) != NodeLen6 {
		return NodeAddr{}, fmt.Errorf("dht: node entry of %d bytes: %w", len(b), ErrMalformed)
	}
	ip, _ := netip.AddrFromSlice(b[20 : len(b)-2])
	port := binary.BigEndian.Uint16(b[len(b)-2:])
	return NodeAddr{ID: InfoHash(b[:20]), Addr: netip.AddrPortFrom(ip, port)}, nil
}

// Linux socket address families, which the wire uses as numbers (§1.5).
const (
	FamilyIPv4 = 2
	FamilyIPv6 = 10
)

// Lengths of a Linux sockaddr_in and sockaddr_in6.
const (
	sockaddrLen4 = 16
	sockaddrLen6 = 28
)

// AppendSockaddr appends a as a Linux sockaddr, the form of values of type 2
// and of state files (§1.5):
//
//	02 00  port(2, BE)  address(4)  zero(8)
//	0a 00  port(2, BE)  flowinfo(4, zero)  address(16)  scope(4, zero)
//
// An invalid address appends nothing, as upstream writes for "none".
func AppendSockaddr(dst []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	switch {
	case ip.Is4():
		b := ip.As4()
		dst = binary.BigEndian.AppendUint16(append(dst, FamilyIPv4, 0), a.Port())
		return append(append(dst, b[:]...), 0, 0, 0, 0, 0, 0, 0, 0)
	case ip.Is6():
		b := ip.As16()
		dst = binary.BigEndian.AppendUint16(append(dst, FamilyIPv6, 0), a.Port())
		return append(append(append(dst, 0, 0, 0, 0), b[:]...), 0, 0, 0, 0)
	}
	return dst
}

// ParseSockaddr reads a Linux sockaddr, told by length and family. Empty input
// yields the invalid AddrPort and no error. Flow and scope are ignored.
func ParseSockaddr(b []byte) (netip.AddrPort, error) {
	if len(b) == 0 {
		return netip.AddrPort{}, nil
	}
	if len(b) == sockaddrLen4 && binary.LittleEndian.Uint16(b) == FamilyIPv4 {
		ip := netip.AddrFrom4([4]byte(b[4:8]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[2:])), nil
	}
	if len(b) == sockaddrLen6 && binary.LittleEndian.Uint16(b) == FamilyIPv6 {
		ip := netip.AddrFrom16([16]byte(b[8:24]))
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[2:])), nil
	}
	return netip.AddrPort{}, fmt.Errorf("dht: socket address of %d bytes: %w", len(b), ErrMalformed)
}
