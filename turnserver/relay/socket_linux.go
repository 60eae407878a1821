package relay

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketConfig says how a socket is opened.
type SocketConfig struct {
	ReusePort bool // several sockets share the address (SO_REUSEPORT)
	Buffer    int  // bytes of kernel buffer each way, 0 = the system's default
	Single    bool // datagrams come one by one: the kernel need not join them (UDP_GRO) on their way here
}

// Socket is a bound, unconnected, non-blocking UDP socket. An IPv6 socket takes no IPv4 traffic.
type Socket struct {
	local netip.AddrPort
	v6    bool
	// maxSegment is the largest datagram that may ride in a train here, in bytes: lowered when the kernel says that a train's
	// segments do not fit the path.
	maxSegment atomic.Int32

	mu   sync.RWMutex // read-held around every system call on fd, held by Close: a descriptor is never used after its number was given on
	fd   int          // -1 once closed
	file *os.File     // set by Pollable; then it owns fd
}

// Listen opens a socket on addr. Port 0 picks a free one.
func Listen(addr netip.AddrPort, cfg SocketConfig) (*Socket, error) {
	family := unix.AF_INET
	v6 := addr.Addr().Is6() && !addr.Addr().Is4In6()
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("relay: socket: %w", err)
	}
	s := &Socket{fd: fd, v6: v6}
	s.maxSegment.Store(maxTrainBytes)
	if err := s.setup(addr, cfg); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("relay: listen on udp %v: %w", addr, err)
	}
	return s, nil
}

func (s *Socket) setup(addr netip.AddrPort, cfg SocketConfig) error {
	if s.v6 {
		if err := setInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if cfg.ReusePort {
		if err := setInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	if !cfg.Single {
		_ = setInt(s.fd, unix.SOL_UDP, unix.UDP_GRO, 1) // kernels before 5.0 do without
	}
	if cfg.Buffer > 0 {
		setBuffer(s.fd, cfg.Buffer, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		setBuffer(s.fd, cfg.Buffer, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	}
	var name unix.RawSockaddrInet6
	if _, errno := swift(unix.SYS_BIND, uintptr(s.fd), uintptr(unsafe.Pointer(&name)), uintptr(toRaw(&name, addr)), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("bind", errno)
	}
	size := uint32(unsafe.Sizeof(name))
	if _, errno := swift(unix.SYS_GETSOCKNAME, uintptr(s.fd), uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("getsockname", errno)
	}
	s.local = fromRaw(&name)
	return nil
}

func setInt(fd, level, option, value int) error {
	v := int32(value)
	if _, errno := swift(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), 4, 0); errno != 0 {
		return os.NewSyscallError("setsockopt", errno)
	}
	return nil
}

// setBuffer tries the privileged form first, which the system's limits do not cap. A smaller buffer than wanted is no error.
func setBuffer(fd, size, force, plain int) {
	if setInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = setInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

// Connect opens a socket that shares addr with others (ReusePort) and takes what comes from remote: the kernel prefers it for that, to any
// socket that is not connected.
func Connect(addr, remote netip.AddrPort, cfg SocketConfig) (*Socket, error) {
	cfg.ReusePort = true
	s, err := Listen(addr, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.connect(remote); err != nil {
		s.Close()
		return nil, fmt.Errorf("relay: connect udp %v to %v: %w", addr, remote, err)
	}
	return s, nil
}

// Mute leaves new datagrams to the other sockets of the address, in this process or another. What waits can still be read, and sending
// goes on.
func (s *Socket) Mute() error { return s.connect(netip.AddrPortFrom(s.local.Addr(), mutePort)) }

// mutePort stands for a remote that sends nothing: port 9 of this host, discard (RFC 863).
const mutePort = 9

func (s *Socket) connect(remote netip.AddrPort) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	var name unix.RawSockaddrInet6
	size := toRaw(&name, remote)
	if _, errno := swift(unix.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&name)), uintptr(size), 0, 0, 0); errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}

// LocalAddr returns the bound address.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Close closes the socket, at once for everybody. Further calls do nothing.
func (s *Socket) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return
	}
	if s.file != nil {
		s.file.Close()
	} else {
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(s.fd), 0, 0) // never again, whatever it says
	}
	s.fd = -1
}

// WriteTo sends one datagram now or drops it: this is for answers, which are lost like any datagram when the send buffer is full.
func (s *Socket) WriteTo(b []byte, to netip.AddrPort) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	return sendTo(s.fd, b, to)
}

func sendTo(fd int, b []byte, to netip.AddrPort) error {
	var name unix.RawSockaddrInet6
	size := toRaw(&name, to)
	if _, errno := swift(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&name)), uintptr(size)); errno != 0 {
		return os.NewSyscallError("sendto", errno)
	}
	return nil
}

// WriteUnfragmented is WriteTo with the don't-fragment bit set (RFC 8656 §14.9).
func (s *Socket) WriteUnfragmented(b []byte, to netip.AddrPort) error {
	s.mu.Lock() // no other packet may leave while the option is changed
	defer s.mu.Unlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	level, opt, on, off := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_PMTUDISC_WANT
	if s.v6 {
		level, opt, on, off = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_PMTUDISC_WANT
	}
	if err := setInt(s.fd, level, opt, on); err != nil {
		return err
	}
	err := sendTo(s.fd, b, to)
	_ = setInt(s.fd, level, opt, off)
	return err
}

// Pollable hands the descriptor to the runtime's poller, for a socket that is read by a goroutine of its own and by no loop.
func (s *Socket) Pollable() (*Poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, os.ErrClosed
	}
	s.file = os.NewFile(uintptr(s.fd), "udp")
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("relay: poll: %w", err)
	}
	return &Poller{raw: raw}, nil
}

// Poller waits for datagrams of one socket.
type Poller struct {
	raw syscall.RawConn
}

// Receive waits until datagrams are there, takes an In from the pool, fills it and calls use with the packets. Nothing is held while it
// waits. It returns an error when the socket has been closed.
func (p *Poller) Receive(use func([]Packet)) error {
	var pkts []Packet
	var in *In
	err := p.raw.Read(func(fd uintptr) bool {
		in = ins.Get().(*In)
		n, errno := in.recv(int(fd), pooledSlots)
		if errno == unix.EAGAIN {
			ins.Put(in)
			in = nil
			return false
		}
		pkts = in.slots[:n]
		return true
	})
	if err != nil {
		return err
	}
	use(pkts)
	in.Reset()
	ins.Put(in)
	return nil
}
