package udpio

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize holds an in6_pktinfo (20 bytes) and a segment size (4 bytes) with their headers, on every word size.
const controlSize = 80

// fromSockaddr reads a sockaddr_in or sockaddr_in6; the port is big-endian in both, at offset 2.
func fromSockaddr(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), swap(sa4.Port))
	}
	a := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && a.Is6() {
		a = a.WithZone(strconv.Itoa(int(sa.Scope_id)))
	}
	return netip.AddrPortFrom(a, swap(sa.Port))
}

// toSockaddr writes the form the descriptor's family wants and returns its length, 0 if the address does not fit it.
func toSockaddr(sa *unix.RawSockaddrInet6, to netip.AddrPort, v6 bool) uint32 {
	a := to.Addr()
	if !v6 {
		if a = a.Unmap(); !a.Is4() {
			return 0
		}
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: swap(to.Port()), Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	if !a.IsValid() {
		return 0
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swap(to.Port()), Addr: a.As16()}
	if z := a.Zone(); z != "" {
		id, err := strconv.ParseUint(z, 10, 32)
		if err != nil {
			return 0
		}
		sa.Scope_id = uint32(id)
	}
	return unix.SizeofSockaddrInet6
}

// swap turns a port between host order and the order it has in a sockaddr's memory.
func swap(p uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], p)
	return binary.NativeEndian.Uint16(b[:])
}

// parseControl walks the control messages of a received datagram: cmsghdr (length, level, type), then the data, padded
// to the word size. It returns the destination address and the size of the joined datagrams, if told.
func parseControl(b []byte) (local netip.Addr, segment int) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return local, segment
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr: the header's destination
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16([16]byte(data[0:16])).Unmap()
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			segment = int(binary.NativeEndian.Uint32(data))
		}
		next := unix.CmsgSpace(size - unix.CmsgLen(0))
		if next > len(b) {
			break
		}
		b = b[next:]
	}
	return local, segment
}

// writeControl writes the control messages of a datagram to be sent and returns their length.
func writeControl(buf *[controlSize]byte, local netip.Addr, segment int, v6 bool) int {
	n := 0
	if local.IsValid() {
		n += putPacketInfo(buf[n:], local, v6)
	}
	if segment > 0 {
		data := header(buf[n:], unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(segment))
		n += unix.CmsgSpace(2)
	}
	return n
}

// putPacketInfo writes in_pktinfo (ifindex, spec_dst, addr) or in6_pktinfo (addr, ifindex). The interface stays 0: the
// routing table chooses it, as it does for every other datagram of the host.
func putPacketInfo(b []byte, local netip.Addr, v6 bool) int {
	if v6 {
		a := local.As16()
		copy(header(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo), a[:])
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	if local = local.Unmap(); !local.Is4() {
		return 0
	}
	a := local.As4()
	copy(header(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:8], a[:])
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// header writes a control message's header and returns its zeroed data.
func header(b []byte, level, typ int32, size int) []byte {
	clear(b[:unix.CmsgSpace(size)])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):unix.CmsgLen(size)]
}
