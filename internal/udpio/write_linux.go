package udpio

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeState belongs to the holder of Conn.writeMu.
type writeState struct {
	f     func(fd uintptr) bool
	ms    []Message
	n     int // messages of ms that left
	errno syscall.Errno
	alone int       // messages at the front that may not be joined: the kernel refused them so
	noGSO bool      // the kernel or the device refused UDP_SEGMENT
	one   []Message // room to cut a Message into segments
}

func (w *writeState) init(c *Conn) {
	w.f = func(fd uintptr) bool {
		for w.n < len(w.ms) {
			n, joined, errno := c.send(fd, w.ms[w.n:])
			w.n += n
			w.alone = max(w.alone-n, 0)
			switch w.errno = errno; {
			case errno == 0:
			case joined > 1 && refusedSegments(errno):
				w.alone = joined
				w.noGSO = w.noGSO || errno == unix.EIO
			default:
				return errno != unix.EAGAIN
			}
		}
		return true
	}
}

// refusedSegments reports whether errno may mean that the datagrams would go alone: the device cannot checksum (udp(7)),
// or a segment exceeds the path's MTU.
func refusedSegments(errno syscall.Errno) bool {
	return errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE
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
	if err == nil && refusedSegments(errno) && segmented(&ms[n]) {
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
	w.ms, w.n, w.alone, w.errno = ms, 0, 0, 0
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

// send makes one sendmmsg call for the front of ms. It returns how many messages left and how many were joined in the one
// that an error is about.
func (c *Conn) send(fd uintptr, ms []Message) (n, joined int, errno syscall.Errno) {
	ms = ms[:min(len(ms), MaxBatch)]
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	headers := 0
	for i := 0; i < len(ms); {
		k := 1
		if i >= c.write.alone && !c.write.noGSO {
			k = run(ms[i:])
		}
		if !c.prepare(s, headers, i, ms[i:i+k]) {
			if i == 0 {
				return 0, 1, unix.EAFNOSUPPORT
			}
			break
		}
		s.count[headers] = k
		headers++
		i += k
	}
	sent, errno := mmsg(unix.SYS_SENDMMSG, fd, s, headers)
	for _, k := range s.count[:sent] {
		n += k
	}
	return n, s.count[0], errno
}

// Bounds on datagrams joined by this package: no segment above what an Ethernet frame carries over IPv6, since the kernel
// refuses those larger than the path's MTU, and no train above what one UDP length could say.
const (
	maxJoined = 1452
	maxTrain  = 65000
)

// run returns how many messages at the front of ms can leave as one train: same way, same size, the last maybe shorter.
func run(ms []Message) int {
	first := &ms[0]
	if first.N == 0 || first.N > maxJoined || first.SegmentSize > 0 {
		return 1
	}
	total, n := first.N, 1
	for n < min(len(ms), MaxSegments) {
		m := &ms[n]
		if m.N == 0 || m.N > first.N || m.SegmentSize > 0 || m.Addr != first.Addr || m.Local != first.Local ||
			total+m.N > maxTrain {
			break
		}
		total += m.N
		n++
		if m.N < first.N {
			break
		}
	}
	return n
}

// prepare makes ms, the message at place i or a train from there on, the content of a header.
func (c *Conn) prepare(s *scratch, header, i int, ms []Message) bool {
	m := &ms[0]
	for k := range ms {
		s.setBuf(i+k, ms[k].Buf[:ms[k].N])
	}
	h := s.setHeader(header, i, len(ms))
	if h.Namelen = toSockaddr(&s.names[header], m.Addr, c.v6); h.Namelen == 0 {
		return false
	}
	local := m.Local
	if !c.features.PacketInfo || local.IsUnspecified() || local.IsMulticast() {
		local = netip.Addr{}
	}
	segment := 0
	switch {
	case len(ms) > 1:
		segment = m.N
	case segmented(m):
		segment = m.SegmentSize
	}
	if n := writeControl(&s.ctl[header], local, segment, c.v6); n > 0 {
		s.setControl(header, n)
	}
	return true
}
