package wire

import (
	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

// Append appends the message in upstream's key order (§3). Fields that are not
// part of the kind are left out. An Invalid kind appends nothing.
func (p *Packet) Append(dst []byte) []byte {
	switch p.Kind {
	case Invalid:
		return dst
	case Reply:
		return p.appendReply(dst)
	case Error:
		return p.appendError(dst)
	case Push:
		return p.appendPush(dst)
	case Part:
		return p.appendParts(dst)
	case Update:
		if p.isNews() {
			return p.appendNews(dst)
		}
	}
	dst = msgpack.AppendMapHeader(dst, 5+p.extras())
	dst = p.appendArgs(msgpack.AppendStr(dst, "a"))
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "q"), p.Kind.String())
	return p.appendTail(p.appendTID(dst), "q")
}

// extras counts the optional entries of the envelope.
func (p *Packet) extras() int { return count(p.Network != 0, p.Client) }

// count counts what is true.
func count(conds ...bool) (n int) {
	for _, c := range conds {
		if c {
			n++
		}
	}
	return n
}

func (p *Packet) appendTID(dst []byte) []byte {
	return msgpack.AppendUint(msgpack.AppendStr(dst, "t"), uint64(p.TID))
}

// appendTail appends y, v, [n], [s].
func (p *Packet) appendTail(dst []byte, y string) []byte {
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "y"), y)
	dst = msgpack.AppendStr(dst, "v")
	if p.Agent == nil {
		dst = msgpack.AppendStr(dst, Agent)
	} else {
		dst = msgpack.AppendStrBytes(dst, p.Agent)
	}
	return p.appendExtras(dst)
}

// appendExtras appends [n], [s].
func (p *Packet) appendExtras(dst []byte) []byte {
	if p.Network != 0 {
		dst = msgpack.AppendUint(msgpack.AppendStr(dst, "n"), uint64(p.Network))
	}
	if p.Client {
		dst = msgpack.AppendBool(msgpack.AppendStr(dst, "s"), true)
	}
	return dst
}

// appendArgs appends the map of "a" for all requests but news.
func (p *Packet) appendArgs(dst []byte) []byte {
	switch p.Kind {
	case Find:
		dst = msgpack.AppendMapHeader(dst, 2+count(p.Want != 0))
		dst = appendHash(dst, "id", p.ID)
		return p.appendWant(appendHash(dst, "target", p.InfoHash))
	case Get:
		dst = msgpack.AppendMapHeader(dst, 1+count(p.hasHash(), p.HasQuery, p.Want != 0))
		return p.appendWant(p.appendQuery(p.appendHash(appendHash(dst, "id", p.ID))))
	case Put:
		return p.appendPut(dst)
	case Refresh:
		dst = msgpack.AppendMapHeader(dst, 2+count(p.hasHash(), p.Token != nil))
		return p.appendToken(p.appendValueID(p.appendHash(appendHash(dst, "id", p.ID))))
	case Listen:
		return p.appendListen(dst)
	case Update:
		return p.appendUpdate(dst)
	}
	return appendHash(msgpack.AppendMapHeader(dst, 1), "id", p.ID)
}

// appendPut: id, h, values, [c], token.
func (p *Packet) appendPut(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 2+count(p.hasHash(), p.HasCreated, p.Token != nil))
	dst = p.appendHash(appendHash(dst, "id", p.ID))
	return p.appendToken(p.appendCreated(p.appendValues(dst)))
}

// appendListen: id, ve, h, token, sid, [q]. Without ve for version 0.
func (p *Packet) appendListen(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 2+count(p.Version != 0, p.hasHash(), p.Token != nil, p.HasQuery))
	dst = p.appendVersion(appendHash(dst, "id", p.ID))
	dst = p.appendSocketID(p.appendToken(p.appendHash(dst)))
	return p.appendQuery(dst)
}

// appendUpdate: id, ve, h, sid, values, [c], token.
func (p *Packet) appendUpdate(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 3+count(p.Version != 0, p.hasHash(), p.HasCreated, p.Token != nil))
	dst = p.appendVersion(appendHash(dst, "id", p.ID))
	dst = p.appendSocketID(p.appendHash(dst))
	return p.appendToken(p.appendCreated(p.appendValues(dst)))
}

// isNews tells an update of refreshed or expired ids from one with values.
func (p *Packet) isNews() bool { return len(p.Refreshed) > 0 || len(p.Expired) > 0 }

// appendNews is an update of ids. Its top level has an order of its own:
// a, y, v, [n], [s], q, t; its arguments are id, sid, [token], re and exp.
func (p *Packet) appendNews(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 5+p.extras())
	dst = msgpack.AppendStr(dst, "a")
	dst = msgpack.AppendMapHeader(dst, 2+count(p.Token != nil, len(p.Refreshed) > 0, len(p.Expired) > 0))
	dst = p.appendToken(p.appendSocketID(appendHash(dst, "id", p.ID)))
	dst = p.appendTail(p.appendIDs(dst), "q")
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "q"), Update.String())
	return p.appendTID(dst)
}

// appendPush: u, y, v, [n], [s], t; u is id, [token], re and exp.
func (p *Packet) appendPush(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 4+p.extras())
	dst = msgpack.AppendStr(dst, "u")
	dst = msgpack.AppendMapHeader(dst, 1+count(p.Token != nil, len(p.Refreshed) > 0, len(p.Expired) > 0))
	dst = p.appendIDs(p.appendToken(appendHash(dst, "id", p.ID)))
	return p.appendTID(p.appendTail(dst, "r"))
}

// appendReply: r, t, y, v, [n], [s]; r is id, [vid], sa, [n4], [n6], [token],
// [values | fileds].
func (p *Packet) appendReply(dst []byte) []byte {
	hasAddr := p.PublicAddr.IsValid()
	dst = msgpack.AppendMapHeader(dst, 4+p.extras())
	dst = msgpack.AppendStr(dst, "r")
	dst = msgpack.AppendMapHeader(dst, 1+count(p.HasValueID, hasAddr, len(p.Nodes4) > 0, len(p.Nodes6) > 0,
		p.Token != nil, len(p.Values) > 0, p.Fields != nil))
	dst = appendHash(dst, "id", p.ID)
	if p.HasValueID {
		dst = p.appendValueID(dst)
	}
	if hasAddr {
		dst = p.appendPublicAddr(dst)
	}
	if len(p.Nodes4) > 0 {
		dst = msgpack.AppendBin(msgpack.AppendStr(dst, "n4"), p.Nodes4)
	}
	if len(p.Nodes6) > 0 {
		dst = msgpack.AppendBin(msgpack.AppendStr(dst, "n6"), p.Nodes6)
	}
	dst = p.appendToken(dst)
	if len(p.Values) > 0 {
		dst = p.appendValues(dst)
	}
	if p.Fields != nil {
		dst = append(msgpack.AppendStr(dst, "fileds"), p.Fields...) // sic
	}
	return p.appendTail(p.appendTID(dst), "r")
}

// appendError: e, r, t, y, v, [n], [s]. Without r.id upstream drops it (§3.3).
func (p *Packet) appendError(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(dst, 5+p.extras())
	dst = msgpack.AppendArrayHeader(msgpack.AppendStr(dst, "e"), 2)
	dst = msgpack.AppendStrBytes(msgpack.AppendUint(dst, uint64(p.Code)), p.Text)
	dst = msgpack.AppendMapHeader(msgpack.AppendStr(dst, "r"), 1)
	return p.appendTail(p.appendTID(appendHash(dst, "id", p.ID)), "e")
}

// appendParts: [n], [s], y, t, p.
func (p *Packet) appendParts(dst []byte) []byte {
	dst = p.appendPartHead(dst)
	dst = msgpack.AppendMapHeader(dst, len(p.Pieces))
	for i := range p.Pieces {
		dst = p.Pieces[i].append(dst)
	}
	return dst
}

// appendPartHead appends all of a part packet up to the map of pieces.
func (p *Packet) appendPartHead(dst []byte) []byte {
	dst = p.appendExtras(msgpack.AppendMapHeader(dst, 3+p.extras()))
	dst = msgpack.AppendStr(msgpack.AppendStr(dst, "y"), "p")
	return msgpack.AppendStr(p.appendTID(dst), "p")
}

func (c *Piece) append(dst []byte) []byte {
	dst = msgpack.AppendMapHeader(msgpack.AppendUint(dst, uint64(c.Index)), 2)
	dst = msgpack.AppendUint(msgpack.AppendStr(dst, "o"), uint64(c.Offset))
	return msgpack.AppendBin(msgpack.AppendStr(dst, "d"), c.Data)
}

func appendHash(dst []byte, key string, h dht.InfoHash) []byte {
	return msgpack.AppendBin(msgpack.AppendStr(dst, key), h[:])
}
