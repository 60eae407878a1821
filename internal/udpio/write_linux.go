package udpio

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeState belongs to the holder of Conn.writeMu.
type writeState struct {
	f     func(fd uintptr) bool
	ms    []Message
	n     int // messages of ms that left
	errno syscall.Errno
	noGSO bool      // the kernel or the device refused UDP_SEGMENT
	one   []Message // room to cut a Message into segments
}

func (w *writeState) init(c *Conn) {
	w.f = func(fd uintptr) bool {
		for w.n < len(w.ms) {
			n, errno := c.send(fd, w.ms[w.n:])
			w.n += n
			if w.errno = errno; errno != 0 {
				return errno != unix.EAGAIN
			}
		}
		return true
	}
}

func (c *Conn) writeBatch(ms []Message) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	done := 0
	for done < len(ms) {
		n, err := c.writeSome(ms[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeOne sends m from storage of the Conn: on the caller's stack it would escape.
func (c *Conn) writeOne(m Message) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.write.one = append(c.write.one[:0], m)
	_, err := c.writeSome(c.write.one)
	clear(c.write.one)
	return err
}

// writeSome sends messages up to and including the first that this package has to cut.
func (c *Conn) writeSome(ms []Message) (int, error) {
	if c.write.noGSO {
		if segmented(&ms[0]) {
			return c.writeCut(&ms[0])
		}
		for i := range ms {
			if segmented(&ms[i]) {
				ms = ms[:i]
				break
			}
		}
	}
	n, errno, err := c.writeRaw(ms)
	if (errno == unix.EIO || errno == unix.EINVAL) && segmented(&ms[n]) {
		// The device cannot checksum, or cannot segment (udp(7)): cut from now on.
		c.write.noGSO = c.write.noGSO || errno == unix.EIO
		if _, err := c.writeCut(&ms[n]); err != nil {
			return n, err
		}
		return n + 1, nil
	}
	if err == nil && errno != 0 {
		err = fmt.Errorf("udpio: write to %v: %w", ms[n].Addr, os.NewSyscallError("sendmmsg", errno))
	}
	return n, err
}

func (c *Conn) writeRaw(ms []Message) (int, syscall.Errno, error) {
	w := &c.write
	w.ms, w.n, w.errno = ms, 0, 0
	err := c.raw.Write(w.f)
	w.ms = nil
	if err != nil {
		return w.n, 0, err
	}
	return w.n, w.errno, nil
}

func segmented(m *Message) bool { return m.SegmentSize > 0 && m.SegmentSize < m.N }

// writeCut sends the segments of m as datagrams of their own.
func (c *Conn) writeCut(m *Message) (int, error) {
	parts := c.write.one[:0]
	for seg := range m.Segments {
		parts = append(parts, Message{Buf: seg, N: len(seg), Addr: m.Addr, Local: m.Local})
	}
	c.write.one = parts
	_, errno, err := c.writeRaw(parts)
	clear(parts)
	if err == nil && errno != 0 {
		err = fmt.Errorf("udpio: write to %v: %w", m.Addr, os.NewSyscallError("sendmmsg", errno))
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// send makes one sendmmsg call for the front of ms.
func (c *Conn) send(fd uintptr, ms []Message) (int, syscall.Errno) {
	ms = ms[:min(len(ms), MaxBatch)]
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for i := range ms {
		if errno := c.prepare(s, i, &ms[i]); errno != 0 {
			if i == 0 {
				return 0, errno
			}
			ms = ms[:i]
			break
		}
	}
	return mmsg(unix.SYS_SENDMMSG, fd, s, 0, len(ms))
}

func (c *Conn) prepare(s *scratch, i int, m *Message) syscall.Errno {
	h := &s.hdrs[i].hdr
	s.setBuf(i, m.Buf[:m.N])
	h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	h.Namelen = toSockaddr(&s.names[i], m.Addr, c.v6)
	if h.Namelen == 0 {
		return unix.EAFNOSUPPORT
	}
	h.Flags = 0
	local := m.Local
	if !c.features.PacketInfo || local.IsUnspecified() || local.IsMulticast() {
		local = netip.Addr{}
	}
	segment := 0
	if segmented(m) {
		segment = m.SegmentSize
	}
	n := writeControl(&s.ctl[i], local, segment, c.v6)
	h.Control = nil
	if n > 0 {
		h.Control = &s.ctl[i][0]
	}
	h.SetControllen(n)
	return 0
}
