package kernelpath

import (
	"encoding/binary"
	"time"

	"github.com/cilium/ebpf/asm"
)

// Verdicts of a program at a TCX hook.
const (
	verdictNext     = -1 // to the next program, and then to the sockets
	verdictDrop     = 2
	verdictRedirect = 7
)

// Lengths and places in a frame. The frame begins with its Ethernet header.
const (
	ethernetSize = 14
	ipSize       = 20 // without options
	udpSize      = 8
	channelSize  = 4 // RFC 8656 §12.4

	udpAt     = ethernetSize + ipSize
	payloadAt = udpAt + udpSize
	checkAt   = udpAt + 6 // the UDP checksum

	// headSize is what the program looks at: IP and UDP headers and four bytes, a ChannelData header or the first data. Shorter packets pass.
	headSize = ipSize + udpSize + channelSize
)

const (
	// maxData bounds the data of one packet that the kernel relays, in bytes: more than a frame of an ordinary network holds. Longer ones pass.
	maxData = 2048
	// holdTime is far more than user space takes for a packet, and little enough for a flow to be back before anybody counts.
	holdTime = 5 * time.Millisecond
)

// Fields of struct __sk_buff.
const (
	skbLen      = 0
	skbType     = 4 // PACKET_HOST is 0
	skbProtocol = 16
	skbVLAN     = 20 // whether there is a tag
	skbGSOSize  = 176
)

// Places in the head.
const (
	ipTotal    = 2
	ipID       = 4
	ipFragment = 6
	ipTTL      = 8
	ipProtocol = 9
	ipCheck    = 10
	ipSource   = 12
	ipDest     = 16
	udpPorts   = ipSize
	udpLength  = ipSize + 4
	udpCheck   = ipSize + 6
	payload    = ipSize + udpSize
)

// Places in maps' values.
const (
	ruleDeadline  = 0
	ruleSource    = 8
	ruleDest      = 12
	rulePorts     = 16
	ruleChannel   = 20
	ruleInterface = 24
	ruleMTU       = 28
	ruleSlot      = 32

	slotPackets = 0
	slotBytes   = 8
	slotHold    = 16
)

// The program's stack, below the frame pointer.
const (
	head    = -32  // headSize bytes of the packet that came
	key     = -48  // flowKey
	fresh   = -80  // IP and UDP headers of the packet that leaves
	was     = -104 // what the UDP checksum covers and will change: see the images below
	is      = -128 // the same of the packet that leaves
	now     = -136 // uint64
	zero    = -144 // eight bytes: the index of one-element arrays, and padding
	scratch = -152 // pointer to this processor's scratch
)

// An image of what changes under the UDP checksum: first the fields of the pseudo header, which even an unfinished checksum covers.
const (
	imageAddresses = 0  // two addresses
	imagePseudo    = 8  // UDP length, two zero bytes
	imagePorts     = 12 // two ports
	imageLength    = 16 // UDP length, two zero bytes
	imageChannel   = 20 // ChannelData header, or zero
	imageHalf      = 12 // bytes before and from the ports on
)

// Flags of bpf_l4_csum_replace.
const (
	csumPseudo   = 0x10 // the difference is one of the pseudo header
	csumMangled0 = 0x20 // zero means "no checksum" and stays, or is written as 0xFFFF
)

const (
	protocolUDP  = 17
	dontFragment = 0x4000
)

// Registers that live through the program. R0 to R5 are scratch; helpers overwrite them.
const (
	packet = asm.R6 // the context, struct __sk_buff
	rule   = asm.R7 // flowRule
	count  = asm.R8 // slot
	data   = asm.R9 // bytes of data, once inspected
)

// tables are the descriptors of the maps.
type tables struct{ flows, traffic, lease, scratch int }

// program is the whole of it, in the order of the package comment.
func program(t tables) (p asm.Instructions) {
	for _, block := range []asm.Instructions{classify(), find(t), admit(t), inspect(t), move(), rewrite(), send(), exits()} {
		p = append(p, block...)
	}
	return p
}

// classify lets everything pass that is not UDP over plain IPv4 for this host, and reads the head of the rest.
func classify() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(packet, asm.R1),
		asm.LoadMem(asm.R0, packet, skbProtocol, asm.Word),
		asm.JNE.Imm(asm.R0, network16(0x0800), "pass"),
		asm.LoadMem(asm.R0, packet, skbType, asm.Word),
		asm.JNE.Imm(asm.R0, 0, "pass"), // another host's, a group's
		asm.LoadMem(asm.R0, packet, skbVLAN, asm.Word),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.R10, zero, asm.R0, asm.DWord),

		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Imm(asm.R2, ethernetSize),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, head),
		asm.Mov.Imm(asm.R4, headSize),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"), // shorter

		asm.LoadMem(asm.R0, asm.R10, head, asm.Byte),
		asm.JNE.Imm(asm.R0, 0x45, "pass"), // version 4, five words
		asm.LoadMem(asm.R0, asm.R10, head+ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R0, protocolUDP, "pass"),
		asm.LoadMem(asm.R0, asm.R10, head+ipFragment, asm.Half),
		asm.And.Imm(asm.R0, network16(^uint16(dontFragment))),
		asm.JNE.Imm(asm.R0, 0, "pass"),
	}
}

// find looks the flow up: rule is set then. A payload that begins like ChannelData may yet be a peer's data.
func find(t tables) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R0, asm.R10, head+ipSource, asm.Word),
		asm.StoreMem(asm.R10, key, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R10, head+ipDest, asm.Word),
		asm.StoreMem(asm.R10, key+4, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R10, head+udpPorts, asm.Word),
		asm.StoreMem(asm.R10, key+8, asm.R0, asm.Word),

		asm.LoadMem(asm.R0, asm.R10, head+payload, asm.Byte),
		asm.And.Imm(asm.R0, 0xC0),
		asm.JNE.Imm(asm.R0, 0x40, "from the peer"), // RFC 8656 §12.4: channel numbers begin with the bits 01
		asm.LoadMem(asm.R0, asm.R10, head+payload, asm.Half),
		asm.StoreMem(asm.R10, key+12, asm.R0, asm.Half),
		asm.StoreImm(asm.R10, key+14, 0, asm.Half),
	}
	p = append(p, lookup(t.flows, asm.R10, key)...)
	p = append(p,
		asm.JNE.Imm(asm.R0, 0, "found"),
		asm.StoreImm(asm.R10, key+12, 0, asm.Word).WithSymbol("from the peer"))
	p = append(p, lookup(t.flows, asm.R10, key)...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(rule, asm.R0).WithSymbol("found"))
}

// lookup calls bpf_map_lookup_elem with the key at base+offset; R0 is the value's place or 0.
func lookup(table int, base asm.Register, offset int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, table),
		asm.Mov.Reg(asm.R2, base),
		asm.Add.Imm(asm.R2, offset),
		asm.FnMapLookupElem.Call(),
	}
}

// admit lets packets pass whose flow has ended or is held, or when user space has stalled. count is set then.
func admit(t tables) (p asm.Instructions) {
	p = append(p, lookup(t.traffic, rule, ruleSlot)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"), // cannot be
		asm.Mov.Reg(count, asm.R0),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R10, now, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, rule, ruleDeadline, asm.DWord),
		asm.JGT.Reg(asm.R0, asm.R1, "pass"),
		asm.LoadMem(asm.R1, count, slotHold, asm.DWord),
		asm.JLT.Reg(asm.R0, asm.R1, "pass"))
	p = append(p, lookup(t.lease, asm.R10, zero)...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"), // cannot be
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.LoadMem(asm.R0, asm.R10, now, asm.DWord),
		asm.JGT.Reg(asm.R0, asm.R1, "pass"))
}

// inspect holds the flow of a packet that is not exactly one datagram as it should be. data and the lengths of the fresh headers are set then.
func inspect(t tables) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R0, packet, skbGSOSize, asm.Word),
		asm.JNE.Imm(asm.R0, 0, "hold"), // several datagrams in one, each to have its own header
		asm.LoadMem(asm.R1, asm.R10, head+ipTotal, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.LoadMem(asm.R2, asm.R10, head+udpLength, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Sub.Imm(asm.R3, ipSize),
		asm.JNE.Reg(asm.R3, asm.R2, "hold"),
		asm.LoadMem(asm.R3, packet, skbLen, asm.Word),
		asm.Sub.Imm(asm.R3, ethernetSize),
		asm.JNE.Reg(asm.R3, asm.R1, "hold"), // short frames are padded: left to user space
		asm.LoadMem(asm.R3, asm.R10, head+ipTTL, asm.Byte),
		asm.JLE.Imm(asm.R3, 1, "hold"),

		asm.Mov.Reg(data, asm.R2),
		asm.Sub.Imm(data, udpSize),
		asm.LoadMem(asm.R3, rule, ruleChannel, asm.Half),
		asm.JNE.Imm(asm.R3, 0, "inspect down"),

		// Up: ChannelData without padding. R1 becomes the total length of the packet that leaves.
		asm.Sub.Imm(data, channelSize),
		asm.LoadMem(asm.R3, asm.R10, head+payload+2, asm.Half),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.JNE.Reg(asm.R3, data, "hold"),
		asm.Sub.Imm(asm.R1, channelSize),
		asm.Ja.Label("inspect size"),

		asm.Add.Imm(asm.R1, channelSize).WithSymbol("inspect down"),

		asm.LoadMem(asm.R3, rule, ruleMTU, asm.Word).WithSymbol("inspect size"),
		asm.JGT.Reg(asm.R1, asm.R3, "hold"),
		asm.JGT.Imm(data, maxData, "hold"),
		asm.JLT.Imm(data, 1, "hold"),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.Sub.Imm(asm.R2, ipSize),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R10, fresh+ipTotal, asm.R1, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.R10, fresh+udpLength, asm.R2, asm.Half),
	}
	p = append(p, lookup(t.scratch, asm.R10, zero)...)
	return append(p,
		asm.JEq.Imm(asm.R0, 0, "pass"), // cannot be
		asm.StoreMem(asm.R10, scratch, asm.R0, asm.DWord))
}

// move shifts the data by four bytes. From its first write on a packet cannot pass any more. The images' ChannelData headers are set then.
func move() (p asm.Instructions) {
	p = append(p,
		asm.LoadMem(asm.R3, rule, ruleChannel, asm.Half),
		asm.JNE.Imm(asm.R3, 0, "down"))

	// Up. The last four bytes are zeroed before they are cut off: the kernel takes them out of a checksum of the whole that it may have.
	p = append(p, copyData(asm.FnSkbLoadBytes, payloadAt+channelSize, "pass")...)
	p = append(p, copyData(asm.FnSkbStoreBytes, payloadAt, "drop")...)
	p = append(p,
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Reg(asm.R2, data),
		asm.Add.Imm(asm.R2, payloadAt),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, zero),
		asm.Mov.Imm(asm.R4, channelSize),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"))
	p = append(p, resize(payloadAt, "drop")...)
	p = append(p,
		asm.LoadMem(asm.R0, asm.R10, head+payload, asm.Word),
		asm.StoreMem(asm.R10, was+imageChannel, asm.R0, asm.Word),
		asm.StoreImm(asm.R10, is+imageChannel, 0, asm.Word),
		asm.Ja.Label("rewrite"))

	// Down. The new header comes from the image.
	p = append(p,
		asm.StoreImm(asm.R10, was+imageChannel, 0, asm.Word).WithSymbol("down"),
		asm.StoreMem(asm.R10, is+imageChannel, asm.R3, asm.Half),
		asm.Mov.Reg(asm.R3, data),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.StoreMem(asm.R10, is+imageChannel+2, asm.R3, asm.Half))
	p = append(p, copyData(asm.FnSkbLoadBytes, payloadAt, "pass")...)
	p = append(p, resize(payloadAt+channelSize, "drop")...)
	p = append(p, copyData(asm.FnSkbStoreBytes, payloadAt+channelSize, "drop")...)
	return append(p, store(payloadAt, is+imageChannel, channelSize)...)
}

// copyData moves the data between the packet, from the given place on, and the scratch.
func copyData(helper asm.BuiltinFunc, at int32, otherwise string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Imm(asm.R2, at),
		asm.LoadMem(asm.R3, asm.R10, scratch, asm.DWord),
		asm.Mov.Reg(asm.R4, data),
		asm.Mov.Imm(asm.R5, 0),
		helper.Call(),
		asm.JNE.Imm(asm.R0, 0, otherwise),
	}
}

// resize gives the packet the length of headers bytes and the data.
func resize(headers int32, otherwise string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Reg(asm.R2, data),
		asm.Add.Imm(asm.R2, headers),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.JNE.Imm(asm.R0, 0, otherwise),
	}
}

// store writes n bytes of the stack into the packet.
func store(at, from, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, from),
		asm.Mov.Imm(asm.R4, n),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
	}
}

// rewrite writes the headers of the packet that leaves.
func rewrite() (p asm.Instructions) {
	p = append(p,
		asm.LoadMem(asm.R0, asm.R10, head, asm.Half).WithSymbol("rewrite"), // version, length, DSCP and ECN: RFC 8656 §14 keeps them
		asm.StoreMem(asm.R10, fresh, asm.R0, asm.Half),
		asm.LoadMem(asm.R0, asm.R10, head+ipID, asm.Half),
		asm.StoreMem(asm.R10, fresh+ipID, asm.R0, asm.Half),
		asm.StoreImm(asm.R10, fresh+ipFragment, int64(network16(dontFragment)), asm.Half),
		asm.LoadMem(asm.R0, asm.R10, head+ipTTL, asm.Byte),
		asm.Sub.Imm(asm.R0, 1),
		asm.StoreMem(asm.R10, fresh+ipTTL, asm.R0, asm.Byte),
		asm.StoreImm(asm.R10, fresh+ipProtocol, protocolUDP, asm.Byte),
		asm.StoreImm(asm.R10, fresh+ipCheck, 0, asm.Half),
		asm.LoadMem(asm.R0, asm.R10, head+udpCheck, asm.Half), // updated below, in place
		asm.StoreMem(asm.R10, fresh+udpCheck, asm.R0, asm.Half))
	for _, f := range []struct{ old, from, image, fresh int16 }{
		{head + ipSource, ruleSource, imageAddresses, fresh + ipSource},
		{head + ipDest, ruleDest, imageAddresses + 4, fresh + ipDest},
		{head + udpPorts, rulePorts, imagePorts, fresh + udpPorts},
	} {
		p = append(p,
			asm.LoadMem(asm.R0, asm.R10, f.old, asm.Word),
			asm.StoreMem(asm.R10, was+f.image, asm.R0, asm.Word),
			asm.LoadMem(asm.R0, rule, f.from, asm.Word),
			asm.StoreMem(asm.R10, is+f.image, asm.R0, asm.Word),
			asm.StoreMem(asm.R10, f.fresh, asm.R0, asm.Word))
	}
	for _, f := range []struct{ from, image int16 }{{head, was}, {fresh, is}} {
		p = append(p,
			asm.LoadMem(asm.R0, asm.R10, f.from+udpLength, asm.Half),
			asm.StoreImm(asm.R10, f.image+imagePseudo, 0, asm.Word),
			asm.StoreMem(asm.R10, f.image+imagePseudo, asm.R0, asm.Half),
			asm.StoreImm(asm.R10, f.image+imageLength, 0, asm.Word),
			asm.StoreMem(asm.R10, f.image+imageLength, asm.R0, asm.Half))
	}
	p = append(p, checkHeader()...)
	p = append(p, store(ethernetSize, fresh, ipSize+udpSize)...)
	p = append(p, updateCheck(0, csumPseudo)...)
	return append(p, updateCheck(imageHalf, 0)...)
}

// checkHeader computes the checksum of the fresh IP header.
func checkHeader() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, fresh),
		asm.Mov.Imm(asm.R4, ipSize),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnCsumDiff.Call(),
	}
	for range 2 { // fold 32 bits to 16, with the carry
		p = append(p,
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.RSh.Imm(asm.R1, 16),
			asm.And.Imm(asm.R0, 0xFFFF),
			asm.Add.Reg(asm.R0, asm.R1))
	}
	return append(p,
		asm.Xor.Imm(asm.R0, 0xFFFF),
		asm.StoreMem(asm.R10, fresh+ipCheck, asm.R0, asm.Half))
}

// updateCheck changes the UDP checksum by the difference of one half of the images.
func updateCheck(half, flags int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R10),
		asm.Add.Imm(asm.R1, was+half),
		asm.Mov.Imm(asm.R2, imageHalf),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, is+half),
		asm.Mov.Imm(asm.R4, imageHalf),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnCsumDiff.Call(),
		asm.Mov.Reg(asm.R1, packet),
		asm.Mov.Imm(asm.R2, checkAt),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Reg(asm.R4, asm.R0),
		asm.Mov.Imm(asm.R5, flags|csumMangled0),
		asm.FnL4CsumReplace.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
	}
}

// send counts the data and lets the packet go.
func send() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(count, asm.R1, asm.DWord, slotPackets),
		asm.AddAtomic.Mem(count, data, asm.DWord, slotBytes),
		asm.LoadMem(asm.R1, rule, ruleInterface, asm.Word),
		asm.Mov.Imm(asm.R2, 0), // the next hop by the routing table
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	}
}

// exits are the ways out without the packet.
func exits() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R0, asm.R10, now, asm.DWord).WithSymbol("hold"),
		asm.LoadImm(asm.R1, int64(holdTime), asm.DWord),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.StoreMem(count, slotHold, asm.R0, asm.DWord),

		asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("pass"),
		asm.Return(),

		asm.Mov.Imm(asm.R0, verdictDrop).WithSymbol("drop"),
		asm.Return(),
	}
}

// network16 is n as a load of 16 bits finds it in a packet.
func network16(n uint16) int32 {
	b := number(n)
	return int32(binary.NativeEndian.Uint16(b[:]))
}
