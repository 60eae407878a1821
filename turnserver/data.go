package turnserver

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/jirani/jirani/turnserver/policy"
	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
)

// channelHeader is the length of a ChannelData header (RFC 8656 §12.4): channel number, data length, both uint16.
const channelHeader = 4

// dataIndication is the type of a Data indication: method 7, class indication.
const dataIndication = 0x0017

var padding [3]byte

// channelData relays one ChannelData message of the client. b begins with its header; over UDP bytes beyond the length are padding.
func (a *alloc) channelData(out *relay.Out, b []byte, now time.Time) {
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-channelHeader {
		a.srv.metrics.dropped(dropMalformed)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	ch := a.channels.ByNumber(binary.BigEndian.Uint16(b), now)
	if ch == nil || ch.Path.relay.sock == nil || a.closed {
		a.srv.metrics.dropped(dropChannel)
		return
	}
	if a.mayPass(ch.Peer, n, now) {
		out.Add(ch.Path.relay.sock, a.srv.inward(ch.Peer), &ch.Path.hint, nil, b[channelHeader:channelHeader+n], nil)
	}
}

// mayPass decides over n bytes from the client to peer and counts them. The caller holds mu.
func (a *alloc) mayPass(peer netip.AddrPort, n int, now time.Time) bool {
	verdict, ok := a.permitted(peer, false, now)
	switch {
	case verdict != policy.Allowed:
		a.srv.metrics.policyDropped(verdict)
	case !ok:
		a.srv.metrics.dropped(dropPermission)
	case !take(&a.shape.up, n, now):
		a.srv.metrics.dropped(dropRate)
	default:
		a.up.packets++
		a.up.bytes += uint64(n)
		return true
	}
	return false
}

// sendIndication is RFC 8656 §11.2. Whatever is wrong with it, there is no answer.
func (s *Server) sendIndication(l link, r *request) {
	a := l.allocation()
	if a == nil || a.tcp != nil || r.malformed || len(r.unknown) > 0 || len(r.peers) != 1 || !r.hasData || r.peers[0].Port() == 0 {
		s.metrics.dropped(dropMalformed)
		return
	}
	peer, now := r.peers[0], time.Now()
	a.mu.Lock()
	u := a.relayFor(peer.Addr())
	ok := u != nil && !a.closed && a.mayPass(peer, len(r.data), now)
	a.mu.Unlock()
	if !ok {
		return
	}
	write := u.sock.WriteTo
	if r.dontFragment {
		write = u.sock.WriteUnfragmented
	}
	if write(r.data, s.inward(peer)) != nil {
		s.metrics.dropped(dropSend) // no route and the like: never the end of an allocation, docs/protocols/turn-usage.md §10
	}
}

// Packets relays what peers sent to a datagram client. It implements relay.Reader.
func (u *udpRelay) Packets(out *relay.Out, pkts []relay.Packet) {
	a := u.alloc
	sock := a.link.socket()
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range pkts {
		p := &pkts[i]
		from, number, ok := a.fromPeer(p.From, now)
		if !ok {
			continue
		}
		var head []byte
		for more := true; more; more = len(p.Buf) > 0 {
			d := p.Next()
			if !a.mayReturn(len(d), now) {
				continue
			}
			if number == 0 {
				out.Add(sock, a.tuple.client, &a.clientHint, indicationHead(out.Scratch(maxIndicationHead), from, len(d)), d, pad(len(d)))
				continue
			}
			if head == nil || int(binary.BigEndian.Uint16(head[2:])) != len(d) {
				head = channelHead(out.Scratch(channelHeader), number, len(d))
			}
			out.Add(sock, a.tuple.client, &a.clientHint, head, d, nil)
		}
	}
}

// fromPeer decides over packets that came from an address: the peer it is, and the channel bound to it or 0. The caller holds mu.
func (a *alloc) fromPeer(src netip.AddrPort, now time.Time) (peer netip.AddrPort, channel uint16, ok bool) {
	peer = a.srv.outward(src)
	if _, ok := a.permitted(peer, false, now); !ok {
		a.srv.metrics.dropped(dropPermission)
		return peer, 0, false
	}
	if ch := a.channels.ByPeer(peer, now); ch != nil {
		channel = ch.Number
	}
	return peer, channel, !a.closed
}

// mayReturn decides over n bytes to the client and counts them. The caller holds mu.
func (a *alloc) mayReturn(n int, now time.Time) bool {
	if !take(&a.shape.down, n, now) {
		a.srv.metrics.dropped(dropRate)
		return false
	}
	a.down.packets++
	a.down.bytes += uint64(n)
	return true
}

func channelHead(b []byte, number uint16, n int) []byte {
	binary.BigEndian.PutUint16(b, number)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	return b
}

// maxIndicationHead is the bytes of a Data indication before the data: message header, XOR-PEER-ADDRESS of IPv6, DATA's header.
const maxIndicationHead = 20 + 4 + 20 + 4

// indicationHead writes a Data indication (RFC 8656 §11.3) up to its data of n bytes.
func indicationHead(b []byte, peer netip.AddrPort, n int) []byte {
	var id [stun.TransactionIDSize]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64())
	binary.BigEndian.PutUint32(id[8:], rand.Uint32())
	size := 8
	if peer.Addr().Is6() {
		size = 20
	}
	binary.BigEndian.PutUint16(b, dataIndication)
	binary.BigEndian.PutUint16(b[2:], uint16(4+size+4+n+len(pad(n))))
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	copy(b[8:], id[:])
	binary.BigEndian.PutUint16(b[20:], uint16(stun.AttrXORPeerAddress))
	binary.BigEndian.PutUint16(b[22:], uint16(size))
	appendXORAddress(b[:24], peer, id)
	binary.BigEndian.PutUint16(b[24+size:], uint16(stun.AttrData))
	binary.BigEndian.PutUint16(b[26+size:], uint16(n))
	return b[:28+size]
}

// pad returns the zero bytes that fill n up to a multiple of four.
func pad(n int) []byte { return padding[:-n&3] }

// streamBuffer holds frames for one write to a stream client, in bytes: room for the longest datagram and its header, since a client that
// reads slowly holds one.
const streamBuffer = 72 << 10

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, 0, streamBuffer); return &b }}

// pump relays what peers send to a stream or DTLS client until the socket is closed. Its goroutine ends with the relayed address. It holds
// nothing while it waits for peers, and one buffer while it waits for the client.
func (u *udpRelay) pump(poller *relay.Poller, write func(frames []byte), single bool) {
	for {
		var buf *[]byte
		err := poller.Receive(func(pkts []relay.Packet) {
			buf = streamBuffers.Get().(*[]byte)
			*buf = u.alloc.frames((*buf)[:0], pkts, write, single)
		})
		if err != nil {
			return
		}
		if len(*buf) > 0 {
			write(*buf)
		}
		streamBuffers.Put(buf)
	}
}

// frames appends a frame for every datagram, padded (RFC 8656 §12.5). When dst is nearly full, or single is set, it writes between.
func (a *alloc) frames(dst []byte, pkts []relay.Packet, write func([]byte), single bool) []byte {
	now := time.Now()
	for i := range pkts {
		p := &pkts[i]
		a.mu.Lock()
		from, number, ok := a.fromPeer(p.From, now)
		a.mu.Unlock()
		if !ok {
			continue
		}
		for more := true; more; more = len(p.Buf) > 0 {
			d := p.Next()
			a.mu.Lock()
			ok := a.mayReturn(len(d), now)
			a.mu.Unlock()
			if !ok {
				continue
			}
			if len(dst) > 0 && (single || len(dst)+len(d)+maxIndicationHead+3 > streamBuffer) {
				write(dst)
				dst = dst[:0]
			}
			var head [maxIndicationHead]byte
			if number == 0 {
				dst = append(dst, indicationHead(head[:], from, len(d))...)
			} else {
				dst = append(dst, channelHead(head[:channelHeader], number, len(d))...)
			}
			dst = append(append(dst, d...), pad(len(d))...)
		}
	}
	return dst
}
