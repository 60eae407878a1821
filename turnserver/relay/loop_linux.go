package relay

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxEvents = 128
	// perSocket is how many slots one socket may fill in a round, so that a busy one does not starve the others: all of them when it
	// is the only one ready.
	perSocket = 16
)

// Reader takes the packets of one socket. It is called from the loop's goroutine only, must not block, and adds to out what is to be sent;
// the packets stay valid until the loop has flushed out.
type Reader interface {
	Packets(out *Out, pkts []Packet)
}

type source struct {
	socket *Socket
	reader Reader
}

// Loop reads many sockets in one goroutine.
type Loop struct {
	in   *In
	out  *Out
	file *os.File // the epoll descriptor, watched by the runtime's poller, so that waiting costs no thread
	raw  syscall.RawConn
	lost func(datagrams uint64)

	mu      sync.Mutex // guards sources
	sources map[int32]source
	fds     map[*Socket]int32
}

// NewLoop returns a loop without sockets. Run it, or Close it. It calls lost with the datagrams that the kernel did not take.
func NewLoop(lost func(datagrams uint64)) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("relay: epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("relay: epoll: %w", err)
	}
	l := &Loop{in: NewIn(loopSlots), out: newOut(), file: os.NewFile(uintptr(fd), "epoll"), lost: lost, sources: make(map[int32]source),
		fds: make(map[*Socket]int32)}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, fmt.Errorf("relay: epoll: %w", err)
	}
	return l, nil
}

// Add has the loop read s, from the next round on.
func (l *Loop) Add(s *Socket, r Reader) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	l.mu.Lock()
	l.sources[int32(s.fd)] = source{s, r}
	l.fds[s] = int32(s.fd)
	l.mu.Unlock()
	var add error
	err := l.raw.Control(func(ep uintptr) {
		add = unix.EpollCtl(int(ep), unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)})
	})
	if err == nil {
		err = add
	}
	if err != nil {
		l.forget(s)
		return fmt.Errorf("relay: epoll: %w", err)
	}
	return nil
}

// Remove stops reading s. The reader may still be called once, in the round that is under way. Closing the descriptor takes it from epoll.
func (l *Loop) Remove(s *Socket) {
	l.forget(s)
	s.Close()
}

func (l *Loop) forget(s *Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd, ok := l.fds[s]; ok {
		delete(l.sources, fd)
		delete(l.fds, s)
	}
}

// Close frees a loop that was never run.
func (l *Loop) Close() error { return l.file.Close() }

// Run reads until ctx is done; then it closes the loop. The sockets stay open.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.file.Close() })
	defer stop()
	var events [maxEvents]unix.EpollEvent
	var ready [maxEvents]source
	n := 0
	wait := func(ep uintptr) bool {
		n = poll(ep, events[:])
		return n != 0
	}
	for {
		err := l.raw.Read(wait)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("relay: epoll: %w", err)
		}
		l.round(l.lookUp(events[:n], ready[:0]))
	}
}

// poll returns how many events are there, without waiting.
func poll(ep uintptr, events []unix.EpollEvent) int {
	n, errno := swift(unix.SYS_EPOLL_PWAIT, ep, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0 // the descriptor is closed, which Run is told otherwise
	}
	return n
}

func (l *Loop) lookUp(events []unix.EpollEvent, ready []source) []source {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		if s, ok := l.sources[events[i].Fd]; ok {
			ready = append(ready, s)
		}
	}
	return ready
}

// round takes from every socket that is ready and sends what the readers made of it.
func (l *Loop) round(ready []source) {
	limit := perSocket
	if len(ready) == 1 {
		limit = loopSlots
	}
	for _, src := range ready {
		if l.in.room() < perSocket {
			l.flush()
		}
		if pkts := l.in.take(src.socket, limit); len(pkts) > 0 {
			src.reader.Packets(l.out, pkts)
		}
	}
	l.flush()
}

func (l *Loop) flush() {
	l.out.Flush()
	if n := l.out.Dropped; n > 0 {
		l.out.Dropped = 0
		l.lost(n)
	}
	l.in.Reset()
}
