package natlab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// snapLen is how much of a packet a capture keeps: a whole one of the wire; the kernel hands over bigger ones (up to
// 64 KiB) where it saves itself the cutting, and of those the headers matter.
const snapLen = 2048 // bytes

// captureBuffer is how much the kernel holds for a capture that lags.
const captureBuffer = 8 << 20 // bytes

// capture writes the packets of one machine's first interface to a file.
type capture struct {
	socket *os.File // closing it ends run
	file   *os.File
	done   chan error
}

// Capture begins to write the packets of machine's first interface to <machine>.pcap in the lab's directory. The file is
// whole once the lab is closed.
func (l *Lab) Capture(machine string) error {
	c, err := newCapture(l.Host(machine), filepath.Join(l.Dir, machine+".pcap"))
	if err != nil {
		return fmt.Errorf("natlab: capture of %s: %w", machine, err)
	}
	l.captures = append(l.captures, c)
	return nil
}

func newCapture(m *Machine, path string) (*capture, error) {
	c := &capture{done: make(chan error, 1)}
	if err := m.Do(func() (err error) { c.socket, err = packetSocket(); return err }); err != nil {
		return nil, err
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, errors.Join(err, c.socket.Close())
	}
	c.file = file
	go func() { c.done <- c.run() }() // ends when close closes the socket
	return c, nil
}

// packetSocket hears every packet of the namespace's first interface, in and out.
func packetSocket() (*os.File, error) {
	everything := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "packets")
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) // a smaller one loses packets only
	index, err := interfaceIndex(fd, portName(0))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func interfaceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}

func (c *capture) run() error {
	w := bufio.NewWriterSize(c.file, 1<<16)
	packet := make([]byte, 1<<16+64)
	err := writePcapHeader(w)
	for err == nil {
		var n int
		n, err = c.socket.Read(packet)
		switch {
		case err == nil:
			err = writePcapPacket(w, time.Now(), packet[:n])
		case errors.Is(err, unix.ENETDOWN): // told once when the cable is pulled; it may come back
			err = nil
		}
	}
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, w.Flush(), c.file.Close())
}

func (c *capture) close() error {
	return errors.Join(c.socket.Close(), <-c.done)
}

// writePcapHeader begins a file of the pcap format, version 2.4, microseconds, Ethernet.
func writePcapHeader(w io.Writer) error {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0) // time zone and accuracy: unused
	b = binary.LittleEndian.AppendUint32(b, snapLen)
	b = binary.LittleEndian.AppendUint32(b, 1) // LINKTYPE_ETHERNET
	_, err := w.Write(b)
	return err
}

func writePcapPacket(w io.Writer, at time.Time, packet []byte) error {
	kept := packet[:min(len(packet), snapLen)]
	b := binary.LittleEndian.AppendUint32(nil, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()/1000))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(kept)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(packet)))
	if _, err := w.Write(b); err != nil {
		return err
	}
	_, err := w.Write(kept)
	return err
}
