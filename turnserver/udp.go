package turnserver

import (
	"net/netip"
	"sync"
	"time"

	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/relay"
)

// udpWorker serves the clients that the kernel's hash gives to one of the sockets of a UDP address. It is the relay.Reader of that socket.
type udpWorker struct {
	srv  *Server
	lis  *listener
	loop *relay.Loop
	sock *relay.Socket

	mu      sync.RWMutex // guards what follows
	clients map[netip.AddrPort]*alloc
	direct  map[netip.AddrPort]*relay.Socket // once released: a connected socket for each client there was
}

// release connects a socket to every client that has an allocation and leaves everybody else to others: another process that listens on
// the same address takes new clients, while the kernel still brings ours here.
func (w *udpWorker) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.direct = make(map[netip.AddrPort]*relay.Socket, len(w.clients))
	for client := range w.clients {
		sock, err := relay.Connect(w.sock.LocalAddr(), client, relay.SocketConfig{})
		if err == nil {
			err = w.loop.Add(sock, w)
		}
		if err != nil {
			w.srv.log.Warn("a client is lost to the next server", logging.KeyErr, err)
			continue
		}
		w.direct[client] = sock
	}
	if err := w.sock.Mute(); err != nil {
		w.srv.log.Warn("listener not released", logging.KeyListen, w.sock.LocalAddr().String(), logging.KeyErr, err)
	}
}

// Packets takes datagrams of clients: channel data goes on at once, STUN messages are handled one by one.
func (w *udpWorker) Packets(out *relay.Out, pkts []relay.Packet) {
	now := time.Now()
	var a *alloc
	var of netip.AddrPort // whose allocation a is
	for i := range pkts {
		p := &pkts[i]
		if p.From.Port() == 0 {
			continue // forged: no answer could reach it
		}
		for more := true; more; more = len(p.Buf) > 0 {
			d := p.Next()
			switch {
			case len(d) >= channelHeader && d[0]&0xC0 == 0x40:
				if of != p.From {
					a, of = w.find(p.From), p.From
				}
				if a == nil {
					w.srv.metrics.dropped(dropChannel)
					continue
				}
				a.channelData(out, d, now)
			case len(d) >= 20 && d[0]&0xC0 == 0:
				w.srv.handle(udpLink{w, p.From}, d)
				of = netip.AddrPort{} // it may have made or ended the allocation
			default:
				w.srv.metrics.refused(refusedMalformed)
			}
		}
	}
}

// find returns the allocation of a client. It may be another worker's: the kernel deals clients out anew whenever a socket joins or leaves
// the address, as those of a stopping server do.
func (w *udpWorker) find(client netip.AddrPort) *alloc {
	if a := w.own(client); a != nil {
		return a
	}
	for _, other := range w.lis.workers {
		if other != w {
			if a := other.own(client); a != nil {
				return a
			}
		}
	}
	return nil
}

func (w *udpWorker) own(client netip.AddrPort) *alloc {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.clients[client]
}

// udpLink is the link of one datagram client. It holds nothing but its address.
type udpLink struct {
	worker *udpWorker
	client netip.AddrPort
}

func (l udpLink) reply(b []byte) { _ = l.worker.sock.WriteTo(b, l.client) } // lost like any datagram

func (l udpLink) realm() string { return l.worker.lis.realmName() }

func (l udpLink) fiveTuple() fiveTuple {
	return fiveTuple{transportUDP, l.client, l.worker.sock.LocalAddr()}
}

func (l udpLink) allocation() *alloc { return l.worker.find(l.client) }

func (l udpLink) adopt(a *alloc) bool {
	w := l.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clients[l.client] != nil {
		return false
	}
	w.clients[l.client] = a
	return true
}

func (l udpLink) disown(a *alloc) {
	w := l.worker
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clients[l.client] == a {
		delete(w.clients, l.client)
	}
	if sock := w.direct[l.client]; sock != nil {
		w.loop.Remove(sock)
		delete(w.direct, l.client)
	}
}

func (l udpLink) attach(u *udpRelay) error { return l.worker.loop.Add(u.sock, u) }
func (l udpLink) detach(u *udpRelay)       { l.worker.loop.Remove(u.sock) }
func (l udpLink) socket() *relay.Socket    { return l.worker.sock }
