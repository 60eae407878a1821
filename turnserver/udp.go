package turnserver

import (
	"net/netip"
	"sync"
	"time"

	"github.com/jirani/jirani/turnserver/relay"
)

// udpWorker serves the clients that the kernel's hash gives to one of the sockets of a UDP address. It is the relay.Reader of that socket.
type udpWorker struct {
	srv  *Server
	lis  *listener
	loop *relay.Loop
	sock *relay.Socket

	mu      sync.RWMutex // guards clients
	clients map[netip.AddrPort]*alloc
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

func (w *udpWorker) find(client netip.AddrPort) *alloc {
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
}

func (l udpLink) attach(u *udpRelay) error { return l.worker.loop.Add(u.sock, u) }
func (l udpLink) detach(u *udpRelay)       { l.worker.loop.Remove(u.sock) }
func (l udpLink) socket() *relay.Socket    { return l.worker.sock }
