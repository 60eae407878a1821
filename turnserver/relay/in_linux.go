package relay

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	slotSize    = 65536 // bytes: a joined datagram (GRO) is never cut
	loopSlots   = 64    // of a loop's In: 4 MiB of address space, of which only what is filled becomes memory
	pooledSlots = 64
	controlSize = 32 // bytes: one control message with an int, the segment size
)

// mmsghdr is struct mmsghdr of recvmmsg(2): a header, and the length moved.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// Packet is one datagram, or several of one flow that the kernel joined.
type Packet struct {
	Buf     []byte         // valid until the In is reset
	Segment int            // bytes per datagram when Buf holds several; otherwise len(Buf)
	From    netip.AddrPort // never IPv4-mapped
}

// Next cuts the first datagram off what is left of a packet's Buf.
func (p *Packet) Next() (datagram []byte) {
	n := min(p.Segment, len(p.Buf))
	datagram, p.Buf = p.Buf[:n:n], p.Buf[n:]
	return datagram
}

// In is a set of receive slots.
type In struct {
	hdrs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6
	ctl   [][controlSize]byte
	mem   []byte
	slots []Packet
	used  int
}

var ins = sync.Pool{New: func() any { return NewIn(pooledSlots) }}

// NewIn returns n empty slots.
func NewIn(n int) *In {
	in := &In{
		hdrs: make([]mmsghdr, n), iovs: make([]unix.Iovec, n), names: make([]unix.RawSockaddrInet6, n),
		ctl: make([][controlSize]byte, n), mem: make([]byte, n*slotSize), slots: make([]Packet, n),
	}
	for i := range in.hdrs {
		in.iovs[i].Base = &in.mem[i*slotSize]
		in.iovs[i].SetLen(slotSize)
		h := &in.hdrs[i].hdr
		h.Iov = &in.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Control = &in.ctl[i][0]
	}
	return in
}

// Reset empties the slots.
func (in *In) Reset() { in.used = 0 }

// room returns how many slots are empty.
func (in *In) room() int { return len(in.slots) - in.used }

// take receives from s into empty slots, at most limit.
func (in *In) take(s *Socket, limit int) []Packet {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return nil
	}
	from := in.used
	n, _ := in.recv(s.fd, limit)
	return in.slots[from : from+n]
}

// recv makes one recvmmsg call.
func (in *In) recv(fd, limit int) (int, syscall.Errno) {
	from := in.used
	limit = min(limit, in.room())
	for i := from; i < from+limit; i++ {
		h := &in.hdrs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
	}
	n, errno := mmsg(unix.SYS_RECVMMSG, fd, &in.hdrs[from], limit)
	for i := from; i < from+n; i++ {
		in.slots[i] = in.packet(i)
	}
	in.used += n
	return n, errno
}

func (in *In) packet(i int) Packet {
	n := int(in.hdrs[i].n)
	p := Packet{Buf: in.mem[i*slotSize : i*slotSize+n], Segment: n, From: fromRaw(&in.names[i])}
	if seg := groSize(in.ctl[i][:in.hdrs[i].hdr.Controllen]); seg > 0 && seg < n {
		p.Segment = seg
	}
	if p.Segment == 0 {
		p.Segment = 1 // an empty datagram: Next returns it once, as no bytes
	}
	return p
}

// groSize finds the UDP_GRO control message, an int.
func groSize(b []byte) int {
	const header = unix.SizeofCmsghdr
	if len(b) < header+4 {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&b[header])))
}

func fromRaw(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
}

// toRaw fills sa and returns its length.
func toRaw(sa *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], a.Port())
	if a.Addr().Is4() {
		sa.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr = a.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	sa.Family = unix.AF_INET6
	sa.Addr, sa.Flowinfo, sa.Scope_id = a.Addr().As16(), 0, 0
	return unix.SizeofSockaddrInet6
}

// mmsg calls recvmmsg or sendmmsg.
func mmsg(trap uintptr, fd int, first *mmsghdr, count int) (int, syscall.Errno) {
	return swift(trap, uintptr(fd), uintptr(unsafe.Pointer(first)), uintptr(count), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
}

// swift makes a system call that never waits, again when a signal came between. The scheduler is not told: it would wake its monitor
// thread for every batch, which would take the processor from this one, and that costs a tenth of a packet.
//
//go:uintptrescapes
func swift(trap, a1, a2, a3, a4, a5, a6 uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
