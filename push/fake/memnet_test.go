package fake_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
)

// memNet is a network in memory, so that whole connections live inside a synctest bubble. A listener's address is
// 127.0.0.1 with a port of its own.
type memNet struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	cut       bool // dials fail
}

type memListener struct {
	addr   *net.TCPAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemNet(t *testing.T) *memNet {
	t.Helper()
	return &memNet{listeners: map[string]*memListener{}}
}

func (n *memNet) Listen() (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &memListener{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1000 + len(n.listeners)},
		conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[l.addr.String()] = l
	return l, nil
}

func (n *memNet) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l, cut := n.listeners[addr], n.cut
	n.mu.Unlock()
	if l == nil || cut {
		return nil, errors.New("memnet: connection refused")
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("memnet: connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Cut makes new connections impossible, or possible again.
func (n *memNet) Cut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return l.addr }
