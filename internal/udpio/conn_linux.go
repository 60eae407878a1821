package udpio

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memInfoDrops is the index of the drop counter in the array SO_MEMINFO returns (SK_MEMINFO_DROPS), and
// memInfoVars the array's length. It is the same counter SO_RXQ_OVFL would attach to every datagram, asked for only
// when somebody wants to know.
const (
	memInfoDrops = 8
	memInfoVars  = 9
)

func beforeBind(rc syscall.RawConn, cfg Config) error {
	if !cfg.ReusePort {
		return nil
	}
	return control(rc, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// setup sets the options of cfg on a bound socket and notes what the kernel granted.
func (c *Conn) setup(cfg Config) error {
	c.read.init(c)
	c.write.init(c)
	c.features = Features{Batch: true, Drops: true}
	return control(c.raw, func(fd int) error {
		if cfg.PacketInfo {
			if err := c.setPacketInfo(fd); err != nil {
				return fmt.Errorf("packet info: %w", err)
			}
			c.features.PacketInfo = true
		}
		if cfg.GRO {
			c.features.GRO = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
		}
		_, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
		c.features.GSO = err == nil
		c.write.noGSO = err != nil
		if err := setBuffer(fd, cfg.ReadBuffer, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF); err != nil {
			return fmt.Errorf("read buffer: %w", err)
		}
		if err := setBuffer(fd, cfg.WriteBuffer, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF); err != nil {
			return fmt.Errorf("write buffer: %w", err)
		}
		return nil
	})
}

// setPacketInfo asks for the destination of each datagram. A dual-stack socket reports IPv4 destinations as mapped
// IPv6 ones, so one option per descriptor is enough.
func (c *Conn) setPacketInfo(fd int) error {
	if c.v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// setBuffer tries the privileged form first, which is not capped by net.core.{r,w}mem_max.
func setBuffer(fd, size, force, plain int) error {
	if size <= 0 || unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
}

// ReadBufferSize returns the kernel's receive buffer in bytes as it accounts for it, which includes its overhead per
// datagram; an operator's net.core.rmem_max may make it smaller than what Config asked for. 0 if unknown.
func (c *Conn) ReadBufferSize() (n int) {
	_ = control(c.raw, func(fd int) (err error) {
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		return err
	})
	return n
}

func (c *Conn) drops() uint64 {
	var info [memInfoVars]uint32
	size := uint32(unsafe.Sizeof(info))
	err := control(c.raw, func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return uint64(info[memInfoDrops])
}

// control runs f with the descriptor and returns the error of either.
func control(rc syscall.RawConn, f func(fd int) error) error {
	var inner error
	err := rc.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}
