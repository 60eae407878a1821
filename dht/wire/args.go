package wire

import (
	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// The functions here append one argument each, or nothing when it is absent.

func (p *Packet) hasHash() bool { return !p.InfoHash.IsZero() }

func (p *Packet) appendHash(dst []byte) []byte {
	if !p.hasHash() {
		return dst
	}
	return appendHash(dst, "h", p.InfoHash)
}

func (p *Packet) appendWant(dst []byte) []byte {
	if p.Want == 0 {
		return dst
	}
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "w"), count(p.Want&Want4 != 0, p.Want&Want6 != 0))
	if p.Want&Want4 != 0 {
		dst = msgpack.AppendUint(dst, dht.FamilyIPv4)
	}
	if p.Want&Want6 != 0 {
		dst = msgpack.AppendUint(dst, dht.FamilyIPv6)
	}
	return dst
}

func (p *Packet) appendQuery(dst []byte) []byte {
	if !p.HasQuery {
		return dst
	}
	return p.Query.Append(msgpack.AppendStr(dst, "q"))
}

func (p *Packet) appendToken(dst []byte) []byte {
	if p.Token == nil {
		return dst
	}
	return msgpack.AppendBin(msgpack.AppendStr(dst, "token"), p.Token)
}

func (p *Packet) appendVersion(dst []byte) []byte {
	if p.Version == 0 {
		return dst
	}
	return msgpack.AppendUint(msgpack.AppendStr(dst, "ve"), uint64(p.Version))
}

func (p *Packet) appendSocketID(dst []byte) []byte {
	return msgpack.AppendUint(msgpack.AppendStr(dst, "sid"), uint64(p.SocketID))
}

func (p *Packet) appendValueID(dst []byte) []byte {
	return msgpack.AppendUint(msgpack.AppendStr(dst, "vid"), uint64(p.ValueID))
}

func (p *Packet) appendCreated(dst []byte) []byte {
	if !p.HasCreated {
		return dst
	}
	return msgpack.AppendInt(msgpack.AppendStr(dst, "c"), p.Created)
}

func (p *Packet) appendValues(dst []byte) []byte {
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "values"), len(p.Values))
	for i := range p.Values {
		if ref := &p.Values[i]; ref.Raw != nil {
			dst = append(dst, ref.Raw...)
		} else {
			dst = msgpack.AppendUint(dst, uint64(ref.Size))
		}
	}
	return dst
}

func (p *Packet) appendIDs(dst []byte) []byte {
	dst = appendIDList(dst, "re", p.Refreshed)
	return appendIDList(dst, "exp", p.Expired)
}

func appendIDList(dst []byte, key string, ids []dht.ValueID) []byte {
	if len(ids) == 0 {
		return dst
	}
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, key), len(ids))
	for _, id := range ids {
		dst = msgpack.AppendUint(dst, uint64(id))
	}
	return dst
}

func (p *Packet) appendPublicAddr(dst []byte) []byte {
	dst = msgpack.AppendStr(dst, "sa")
	if ip := p.PublicAddr.Unmap(); ip.Is4() {
		a := ip.As4()
		return msgpack.AppendBin(dst, a[:])
	}
	a := p.PublicAddr.As16()
	return msgpack.AppendBin(dst, a[:])
}
