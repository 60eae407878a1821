package udpio

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2): the header, and the length moved.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// scratch is what a system call for up to MaxBatch datagrams needs: headers with one address and one control buffer
// each, and a vector per datagram. It is lent from a pool for the length of a system call only, so that thousands of
// idle sockets hold none.
type scratch struct {
	hdrs  [MaxBatch]mmsghdr
	iovs  [MaxBatch]unix.Iovec
	names [MaxBatch]unix.RawSockaddrInet6
	ctl   [MaxBatch][controlSize]byte
	count [MaxBatch]int // messages behind each header, when written
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// setBuf makes b the vector at place i.
func (s *scratch) setBuf(i int, b []byte) {
	s.iovs[i].Base = unsafe.SliceData(b)
	s.iovs[i].SetLen(len(b))
}

// setHeader gives the header at place i its address, and n vectors from place first on.
func (s *scratch) setHeader(i, first, n int) *unix.Msghdr {
	h := &s.hdrs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	h.Namelen = unix.SizeofSockaddrInet6
	h.Iov = &s.iovs[first]
	h.SetIovlen(n)
	h.Control = nil
	h.SetControllen(0)
	h.Flags = 0
	return h
}

// setControl gives the header at place i n bytes of its control buffer.
func (s *scratch) setControl(i, n int) {
	h := &s.hdrs[i].hdr
	h.Control = &s.ctl[i][0]
	h.SetControllen(n)
}

// readState belongs to the holder of Conn.readMu. f is made once, since a closure per call would be an allocation.
type readState struct {
	f     func(fd uintptr) bool
	ms    []Message
	block bool
	n     int
	errno syscall.Errno
}

func (r *readState) init(c *Conn) {
	r.f = func(fd uintptr) bool {
		r.n, r.errno = c.recv(fd, r.ms)
		return r.errno != unix.EAGAIN || !r.block
	}
}

func (c *Conn) readBatch(ms []Message, block bool) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	r := &c.read
	r.ms, r.block = ms[:min(len(ms), MaxBatch)], block
	err := c.raw.Read(r.f)
	r.ms = nil
	switch {
	case err != nil:
		return 0, err
	case r.errno == unix.EAGAIN:
		return 0, ErrWouldBlock
	case r.errno != 0:
		return 0, fmt.Errorf("udpio: read: %w", os.NewSyscallError("recvmmsg", r.errno))
	}
	return r.n, nil
}

// WaitRead returns when a datagram waits. It must not run beside another read of the same Conn that could take the
// datagram first; then it waits for the next.
func (c *Conn) WaitRead() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	return c.raw.Read(readable)
}

// readable peeks: the poller reports edges, so only asking the socket tells whether something is there now.
func readable(fd uintptr) bool {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, 0, 0, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}

// recv makes one recvmmsg call and translates its result.
func (c *Conn) recv(fd uintptr, ms []Message) (int, syscall.Errno) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	wantControl := c.features.PacketInfo || c.features.GRO
	for i := range ms {
		s.setBuf(i, ms[i].Buf)
		s.setHeader(i, i, 1)
		if wantControl {
			s.setControl(i, controlSize)
		}
	}
	n, errno := mmsg(unix.SYS_RECVMMSG, fd, s, len(ms))
	if errno != 0 {
		return 0, errno
	}
	for i := range ms[:n] {
		c.received(s, i, &ms[i], wantControl)
	}
	return n, 0
}

func (c *Conn) received(s *scratch, i int, m *Message, wantControl bool) {
	h := &s.hdrs[i].hdr
	m.N = int(s.hdrs[i].n)
	m.Addr = fromSockaddr(&s.names[i])
	m.Truncated = h.Flags&unix.MSG_TRUNC != 0
	m.SegmentSize = 0
	if !wantControl {
		return
	}
	local, segment := parseControl(s.ctl[i][:h.Controllen])
	if c.features.PacketInfo {
		m.Local = local
	}
	if segment > 0 && segment < m.N {
		m.SegmentSize = segment
	}
}

// mmsg calls recvmmsg or sendmmsg for the first headers, again when a signal came between. The scheduler is not told of a call that never
// waits: for each batch it would wake its monitor thread, which costs a tenth of a packet.
func mmsg(trap, fd uintptr, s *scratch, headers int) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&s.hdrs[0])), uintptr(headers),
			unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}
