package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxTrains     = 64    // per flush
	maxSegments   = 64    // datagrams per train: UDP_MAX_SEGMENTS of Linux before 6.9
	maxVectors    = 128   // per train: a header and a body for each datagram
	maxTrainBytes = 65000 // an IP packet's 65,535 less headers, with some room
	arenaSize     = 32 << 10
)

// Hint remembers the train that a destination was last added to. Whoever keeps a destination keeps a Hint with it; the zero value is ready.
type Hint struct {
	cycle uint64
	train int32
}

// cycles numbers the times between two flushes of all Outs, so that a Hint left by one Out never fits another.
var cycles atomic.Uint64

// train is one call's worth of datagrams: the same socket, the same destination, the same size, but the last may be shorter.
type train struct {
	socket  *Socket
	name    unix.RawSockaddrInet6
	iovs    [maxVectors]unix.Iovec
	vectors int
	segment int // bytes of each datagram but the last
	count   int // datagrams
	total   int // bytes
	closed  bool
	ctl     [24]byte // UDP_SEGMENT: struct cmsghdr and a uint16, padded
}

// Out collects datagrams until [Out.Flush] sends them. What is added is not copied and must stay as it is until then.
type Out struct {
	Sent    uint64 // datagrams handed to the kernel so far
	Dropped uint64 // datagrams the kernel would not take: no route, full buffer, closed socket

	hdrs   [maxTrains]mmsghdr
	trains [maxTrains]train
	n      int // trains in use
	cycle  uint64
	arena  [arenaSize]byte
	used   int // bytes of arena
}

var outs = sync.Pool{New: func() any { return newOut() }}

// TakeOut returns an empty Out from the pool; Release it after flushing.
func TakeOut() *Out { return outs.Get().(*Out) }

// Release flushes o, gives it back to the pool, and returns how many datagrams the kernel did not take.
func (o *Out) Release() (lost uint64) {
	o.Flush()
	lost = o.Dropped
	o.Sent, o.Dropped = 0, 0
	outs.Put(o)
	return lost
}

func newOut() *Out {
	o := &Out{cycle: cycles.Add(1)}
	for i := range o.hdrs {
		t := &o.trains[i]
		h := &o.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&t.name))
		h.Iov = &t.iovs[0]
		c := (*unix.Cmsghdr)(unsafe.Pointer(&t.ctl[0]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
	}
	return o
}

// Scratch returns n bytes, at most 4 KiB, that stay valid until the next Flush or, once they have been added, the next Scratch. It may
// flush itself.
func (o *Out) Scratch(n int) []byte {
	if o.used+n > len(o.arena) {
		o.Flush() // nothing that was added refers to the arena any more
	}
	b := o.arena[o.used : o.used+n : o.used+n]
	o.used += n
	return b
}

// Add queues one datagram, head and body and tail, any of which may be empty, from s to the address to. Datagrams added for one
// destination leave in the order of their adding. It may flush.
func (o *Out) Add(s *Socket, to netip.AddrPort, hint *Hint, head, body, tail []byte) {
	size := len(head) + len(body) + len(tail)
	if hint.cycle == o.cycle {
		if t := &o.trains[hint.train]; t.joinable(s, size) {
			t.add(size, head, body, tail)
			return
		}
	}
	if o.n == maxTrains {
		o.emit() // the caller's scratch bytes stay
	}
	hint.cycle, hint.train = o.cycle, int32(o.n)
	t := &o.trains[o.n]
	t.socket, t.segment, t.vectors, t.count, t.total = s, size, 0, 0, 0
	t.closed = size == 0 || size > int(s.maxSegment.Load())
	o.hdrs[o.n].hdr.Namelen = toRaw(&t.name, to)
	o.n++
	t.add(size, head, body, tail)
}

// joinable reports whether a datagram of size bytes may ride behind those of t.
func (t *train) joinable(s *Socket, size int) bool {
	return !t.closed && t.socket == s && size <= t.segment && size > 0 && t.count < maxSegments && t.vectors+3 <= maxVectors &&
		t.total+size <= maxTrainBytes
}

func (t *train) add(size int, parts ...[]byte) {
	for _, p := range parts {
		if len(p) > 0 {
			t.iovs[t.vectors].Base = unsafe.SliceData(p)
			t.iovs[t.vectors].SetLen(len(p))
			t.vectors++
		}
	}
	t.count++
	t.total += size
	if size < t.segment {
		t.closed = true // only the last datagram may be shorter
	}
}

// Flush sends everything. Scratch bytes lose their meaning.
func (o *Out) Flush() {
	o.emit()
	o.used = 0
}

func (o *Out) emit() {
	for i := 0; i < o.n; {
		j := i + 1
		for j < o.n && o.trains[j].socket == o.trains[i].socket {
			j++
		}
		o.send(i, j)
		i = j
	}
	o.n = 0
	o.cycle = cycles.Add(1)
}

// send sends trains i to j-1, which share a socket.
func (o *Out) send(i, j int) {
	s := o.trains[i].socket
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k := i; k < j; k++ {
		o.prepare(k)
	}
	for i < j {
		if s.fd < 0 {
			o.Dropped += uint64(o.trains[i].count)
			i++
			continue
		}
		n, errno := o.trySend(s.fd, i, j)
		if errno != 0 {
			o.refused(s, i, errno)
			n = 1
		} else {
			for k := i; k < i+n; k++ {
				o.Sent += uint64(o.trains[k].count)
			}
		}
		i += n
	}
}

// trySend makes one call for trains i to j-1 and returns how many of them have left. A datagram in one piece needs no headers, which
// saves a fifteenth of what it costs.
func (o *Out) trySend(fd, i, j int) (int, syscall.Errno) {
	t := &o.trains[i]
	if j-i > 1 || t.vectors != 1 {
		return mmsg(unix.SYS_SENDMMSG, fd, &o.hdrs[i], j-i)
	}
	_, errno := swift(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(t.iovs[0].Base)), uintptr(t.iovs[0].Len),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&t.name)), uintptr(o.hdrs[i].hdr.Namelen))
	return 1, errno
}

// prepare completes the header of train k.
func (o *Out) prepare(k int) {
	t, h := &o.trains[k], &o.hdrs[k].hdr
	h.SetIovlen(t.vectors)
	h.Control = nil
	h.SetControllen(0)
	if t.count > 1 {
		*(*uint16)(unsafe.Pointer(&t.ctl[unix.SizeofCmsghdr])) = uint16(t.segment)
		h.Control = &t.ctl[0]
		h.SetControllen(unix.CmsgSpace(2))
	}
}

// refused deals with a train that the kernel did not take. One that could not be cut goes out as single datagrams; everything else is
// lost, as datagrams are: no route, no buffer, a filter. The caller holds the socket's lock.
func (o *Out) refused(s *Socket, i int, errno syscall.Errno) {
	t := &o.trains[i]
	if t.count == 1 || errno != unix.EINVAL && errno != unix.EIO && errno != unix.EMSGSIZE {
		o.Dropped += uint64(t.count)
		return
	}
	s.maxSegment.Store(int32(t.segment - 1)) // such segments do not fit: do not try again
	iovs, left := t.iovs[:t.vectors], t.count
	for ; left > 0; left-- {
		n, size := 0, 0
		for n < len(iovs) && size < t.segment {
			size += int(iovs[n].Len)
			n++
		}
		h := mmsghdr{hdr: o.hdrs[i].hdr}
		h.hdr.Control = nil
		h.hdr.SetControllen(0)
		h.hdr.Iov = &iovs[0]
		h.hdr.SetIovlen(n)
		if _, errno := mmsg(unix.SYS_SENDMMSG, s.fd, &h, 1); errno != 0 {
			o.Dropped++
		} else {
			o.Sent++
		}
		iovs = iovs[n:]
	}
}
