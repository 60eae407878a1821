//go:build !linux

package udpio

import (
	"errors"
	"net/netip"
	"syscall"
)

// The portable form: package net, one datagram per call, none of the Features.

type readState struct {
	held  Message // a datagram WaitRead had to take to know it was there
	holds bool
}

type writeState struct{}

func beforeBind(_ syscall.RawConn, cfg Config) error {
	if cfg.ReusePort {
		return errors.New("udpio: several sockets on one port need Linux")
	}
	return nil
}

func (c *Conn) setup(cfg Config) error {
	if cfg.ReadBuffer > 0 {
		if err := c.udp.SetReadBuffer(cfg.ReadBuffer); err != nil {
			return err
		}
	}
	if cfg.WriteBuffer > 0 {
		return c.udp.SetWriteBuffer(cfg.WriteBuffer)
	}
	return nil
}

// ReadBufferSize returns 0: unknown here.
func (c *Conn) ReadBufferSize() int { return 0 }

func (c *Conn) drops() uint64 { return 0 }

func (c *Conn) readBatch(ms []Message, block bool) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if r := &c.read; r.holds {
		m := &ms[0]
		m.N = copy(m.Buf, r.held.Payload())
		m.Addr, m.Truncated, m.SegmentSize = r.held.Addr, m.N < r.held.N, 0
		c.read = readState{}
		return 1, nil
	}
	if !block {
		return 0, ErrWouldBlock
	}
	return 1, c.readOne(&ms[0])
}

func (c *Conn) readOne(m *Message) error {
	n, from, err := c.udp.ReadFromUDPAddrPort(m.Buf)
	if err != nil {
		return err
	}
	m.N, m.SegmentSize, m.Truncated = n, 0, false
	m.Addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return nil
}

// WaitRead returns when a datagram waits.
func (c *Conn) WaitRead() error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.read.holds {
		return nil
	}
	c.read.held.Buf = make([]byte, MaxDatagram)
	if err := c.readOne(&c.read.held); err != nil {
		c.read = readState{}
		return err
	}
	c.read.holds = true
	return nil
}

func (c *Conn) writeBatch(ms []Message) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for i := range ms {
		for seg := range ms[i].Segments {
			if _, err := c.udp.WriteToUDPAddrPort(seg, ms[i].Addr); err != nil {
				return i, err
			}
		}
	}
	return len(ms), nil
}

func (c *Conn) writeOne(m Message) error {
	_, err := c.udp.WriteToUDPAddrPort(m.Payload(), m.Addr)
	return err
}
