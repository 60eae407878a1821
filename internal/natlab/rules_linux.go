package natlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of the nftables machine: reg1 and reg2 hold 16 bytes each; the 32-bit registers 8… lie over them four by four.
const (
	reg1   = 1
	reg2   = 2
	reg1w1 = 9  // second word of reg1
	reg1w2 = 10 // third
	reg1w3 = 11 // fourth
)

const (
	tableName  = "natlab"
	straysName = "strays"
	strayMax   = 4096 // elements of the strays set; a test fails at the first
	mappingMax = 4096 // endpoint-independent mappings per router
)

// strayKey is source, destination, protocol and destination port, each in a word of its own.
var strayKey = nftables.MustConcatSetType(
	nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)

// endpoint is an address and a port, each in a word of its own.
var endpoint = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)

// ruleset gathers the table of one router.
type ruleset struct {
	conn   *nftables.Conn
	table  *nftables.Table
	strays *nftables.Set
}

// installing is held while rules are written: nftables v0.3.0 numbers sets by a global counter without a lock.
var installing sync.Mutex

// install gives the namespace ns of router r its table. uplink is the name of the interface in r.Uplink, or "".
func install(ns int, t Topology, r Router, uplink string) (*ruleset, error) {
	installing.Lock()
	defer installing.Unlock()
	conn, err := nftables.New(nftables.WithNetNSFd(ns))
	if err != nil {
		return nil, fmt.Errorf("natlab: nftables of %s: %w", r.Name, err)
	}
	rs := &ruleset{conn: conn, table: conn.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4})}
	if err := rs.countStrays(t); err != nil {
		return nil, err
	}
	rs.forward(r, uplink)
	if uplink != "" {
		rs.input(uplink)
	}
	if err := rs.translate(r.NAT, uplink); err != nil {
		return nil, err
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("natlab: rules of %s: %w", r.Name, err)
	}
	return rs, nil
}

func (rs *ruleset) chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	return rs.conn.AddChain(&nftables.Chain{
		Name: name, Table: rs.table, Type: typ, Hooknum: hook, Priority: prio, Policy: &policy})
}

func (rs *ruleset) rule(c *nftables.Chain, parts ...[]expr.Any) {
	rs.conn.AddRule(&nftables.Rule{Table: rs.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// countStrays drops, before anything else sees it, what goes to no network of the topology, and remembers it.
func (rs *ruleset) countStrays(t Topology) error {
	rs.strays = &nftables.Set{Table: rs.table, Name: straysName, KeyType: strayKey, Concatenation: true, Dynamic: true, Size: strayMax}
	if err := rs.conn.AddSet(rs.strays, nil); err != nil {
		return fmt.Errorf("natlab: set of strays: %w", err)
	}
	c := rs.chain("strays", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, nftables.ChainPolicyAccept)
	for _, n := range t.Networks {
		rs.rule(c, destinationIn(n.Prefix), verdict(expr.VerdictAccept))
	}
	rs.rule(c, destinationIn(netip.MustParsePrefix("224.0.0.0/4")), verdict(expr.VerdictAccept))
	rs.rule(c, destinationIn(netip.MustParsePrefix("255.255.255.255/32")), verdict(expr.VerdictAccept))
	rs.rule(c, []expr.Any{
		network(reg1, 12, 4), network(8+1, 16, 4), // source, destination
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1w2},
		transport(reg1w3, 2, 2),
		&expr.Dynset{SrcRegKey: reg1, SetName: straysName, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE)},
	}, verdict(expr.VerdictDrop))
	// Packets without ports (ICMP) do not match the rule above.
	rs.rule(c, []expr.Any{
		network(reg1, 12, 4), network(8+1, 16, 4),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1w2},
		&expr.Immediate{Register: reg1w3, Data: []byte{0, 0}},
		&expr.Dynset{SrcRegKey: reg1, SetName: straysName, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE)},
	}, verdict(expr.VerdictDrop))
	return nil
}

// forward says what crosses the router.
func (rs *ruleset) forward(r Router, uplink string) {
	policy := nftables.ChainPolicyAccept
	if r.NAT != NoNAT {
		policy = nftables.ChainPolicyDrop
	}
	c := rs.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter, policy)
	if r.Loss > 0 {
		rs.rule(c, atRandom(r.Loss), verdict(expr.VerdictDrop))
	}
	if uplink == "" {
		return
	}
	out := iface(expr.MetaKeyOIFNAME, uplink)
	if r.BlockUDP {
		rs.rule(c, out, protocol(unix.IPPROTO_UDP), verdict(expr.VerdictDrop))
	}
	if len(r.OnlyTo) > 0 {
		rs.onlyTo(c, r.OnlyTo, out)
	}
	rs.rule(c, out, verdict(expr.VerdictAccept))
	rs.rule(c, ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	rs.rule(c, ctStatus(ctStatusDNAT), verdict(expr.VerdictAccept))
}

// onlyTo drops what goes out to other destinations, and what comes in from them.
func (rs *ruleset) onlyTo(c *nftables.Chain, allowed []netip.Addr, out []expr.Any) {
	not := slices.Clone(out)
	in := []expr.Any{}
	for _, a := range allowed {
		not = append(not, network(reg1, 16, 4), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: a.AsSlice()})
		in = append(in, network(reg1, 12, 4), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: a.AsSlice()})
	}
	rs.rule(c, not, verdict(expr.VerdictDrop))
	rs.rule(c, []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: out[1].(*expr.Cmp).Data}}, in, verdict(expr.VerdictDrop))
}

// input drops what strangers send to the router itself. Without it the kernel would answer, and the connection it notes
// in doing so would take the very port that the inside is about to send from (hole punching would fail on every NAT).
func (rs *ruleset) input(uplink string) {
	c := rs.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter, nftables.ChainPolicyAccept)
	rs.rule(c, iface(expr.MetaKeyIIFNAME, uplink), ctState(expr.CtStateBitNEW), verdict(expr.VerdictDrop))
}

// translate writes the NAT kind as rules.
func (rs *ruleset) translate(kind NAT, uplink string) error {
	if kind == NoNAT {
		return nil
	}
	post := rs.chain("post", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, nftables.ChainPolicyAccept)
	out := iface(expr.MetaKeyOIFNAME, uplink)
	if kind == EndpointIndependent {
		if err := rs.openMappings(post, out, uplink); err != nil {
			return err
		}
	}
	// The kernel's masquerade keeps the source port while it is free, so the mapping is the same for all destinations;
	// fully-random takes a fresh one for each.
	rs.rule(post, out, []expr.Any{&expr.Masq{FullyRandom: kind == Symmetric}})
	return nil
}

// openMappings notes each inside endpoint under its source port, and sends to it what strangers send to that port.
func (rs *ruleset) openMappings(post *nftables.Chain, out []expr.Any, uplink string) error {
	m := &nftables.Set{Table: rs.table, Name: "mappings", IsMap: true, Dynamic: true, Size: mappingMax,
		KeyType: nftables.TypeInetService, DataType: endpoint}
	if err := rs.conn.AddSet(m, nil); err != nil {
		return fmt.Errorf("natlab: map of mappings: %w", err)
	}
	rs.rule(post, out, protocol(unix.IPPROTO_UDP), []expr.Any{
		transport(reg2, 0, 2),
		network(reg1, 12, 4), transport(reg1w1, 0, 2),
		&expr.Dynset{SrcRegKey: reg2, SrcRegData: reg1, SetName: m.Name, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE)},
	})
	pre := rs.chain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, nftables.ChainPolicyAccept)
	rs.rule(pre, iface(expr.MetaKeyIIFNAME, uplink), protocol(unix.IPPROTO_UDP), []expr.Any{
		transport(reg2, 2, 2),
		&expr.Lookup{SourceRegister: reg2, DestRegister: reg1, IsDestRegSet: true, SetName: m.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg1w1},
	})
	return nil
}

// Stray is a kind of packet that tried to leave the lab.
type Stray struct {
	Router   string // that counted it
	From, To netip.Addr
	Protocol uint8  // IP protocol number
	Port     uint16 // destination port, 0 without ports
}

// String is the line a failing test prints.
func (s Stray) String() string {
	return fmt.Sprintf("%v → %v, protocol %d, port %d, at %s", s.From, s.To, s.Protocol, s.Port, s.Router)
}

// read lists the strays that router has counted.
func (rs *ruleset) read(router string) ([]Stray, error) {
	elements, err := rs.conn.GetSetElements(rs.strays)
	if err != nil {
		return nil, fmt.Errorf("natlab: strays of %s: %w", router, err)
	}
	var strays []Stray
	for _, e := range elements {
		if len(e.Key) < 14 {
			return nil, fmt.Errorf("natlab: strays of %s: key of %d bytes", router, len(e.Key))
		}
		from, _ := netip.AddrFromSlice(e.Key[0:4])
		to, _ := netip.AddrFromSlice(e.Key[4:8])
		strays = append(strays, Stray{Router: router, From: from, To: to, Protocol: e.Key[8], Port: binary.BigEndian.Uint16(e.Key[12:14])})
	}
	return strays, nil
}

// The parts of rules.

// network loads n bytes at offset of the IPv4 header.
func network(reg, offset, n uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n}
}

// transport loads n bytes at offset of the UDP or TCP header.
func transport(reg, offset, n uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: n}
}

func destinationIn(p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		network(reg1, 16, 4),
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: p.Addr().AsSlice()},
	}
}

// iface matches the name of the interface that key means.
func iface(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: reg1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: b}}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{p}},
	}
}

// atRandom matches percent of the packets.
func atRandom(percent int) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: reg1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: reg1, Data: binaryutil.BigEndian.PutUint32(uint32(percent))},
	}
}

func ctState(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATE, bits) }

// ctStatusDNAT is IPS_DST_NAT of the kernel's connection tracking: the destination was translated.
const ctStatusDNAT = 1 << 5

func ctStatus(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATUS, bits) }

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
