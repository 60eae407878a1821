package wire_test

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/msgpack"
)

var (
	someID  = dht.HashText("some node")
	someKey = dht.HashText("some key")
)

// unhex reads hex with blanks between the fields.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// obj is a map in the making: alternating keys and encoded contents.
func obj(pairs ...[]byte) []byte {
	b := msgpack.AppendMapHeader(nil, len(pairs)/2)
	for _, p := range pairs {
		b = append(b, p...)
	}
	return b
}

func arr(elems ...[]byte) []byte {
	b := msgpack.AppendArrayHeader(nil, len(elems))
	for _, e := range elems {
		b = append(b, e...)
	}
	return b
}

func str(s string) []byte { return msgpack.AppendStr(nil, s) }
func num(n int64) []byte  { return msgpack.AppendInt(nil, n) }
func bin(b []byte) []byte { return msgpack.AppendBin(nil, b) }

// request is a message of that name with extra arguments after the id.
func request(name string, args ...[]byte) []byte {
	a := obj(append([][]byte{str("id"), bin(someID[:])}, args...)...)
	return obj(str("a"), a, str("q"), str(name), str("t"), num(7), str("y"), str("q"), str("v"), str("o2"))
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	id20 := bin(someID[:])
	ping := func(extra ...[]byte) []byte {
		return obj(append([][]byte{str("a"), obj(str("id"), id20), str("q"), str("ping")}, extra...)...)
	}
	tests := []struct {
		name string
		in   []byte
		want func(*wire.Packet) bool
	}{
		{"no y, no t", ping(), func(p *wire.Packet) bool { return p.Kind == wire.Ping && p.TID == 0 && p.ID == someID }},
		{"trailing bytes", append(ping(), 0xc1, 0xff), func(p *wire.Packet) bool { return p.Kind == wire.Ping }},
		{"tid as str", ping(str("t"), str("abcd")), func(p *wire.Packet) bool { return p.TID == 0x61626364 }},
		{"tid as short str", ping(str("t"), str("abc")), func(p *wire.Packet) bool { return p.TID == 0x61626300 }},
		{"tid as bin", ping(str("t"), bin([]byte{0, 0, 0, 5})), func(p *wire.Packet) bool { return p.TID == 5 }},
		{"tid as int64", ping(str("t"), unhex(t, "d3 0000000000000009")), func(p *wire.Packet) bool { return p.TID == 9 }},
		{"largest tid", ping(str("t"), num(1<<32-1)), func(p *wire.Packet) bool { return p.TID == 1<<32-1 }},
		{"duplicate key, last wins", ping(str("t"), num(1), str("t"), num(2)), func(p *wire.Packet) bool { return p.TID == 2 }},
		{"duplicate map, last wins", ping(str("a"), obj(str("id"), bin(someKey[:]))), func(p *wire.Packet) bool { return p.ID == someKey }},
		{"unknown and odd keys", ping(str("zz"), arr(num(1), num(2)), num(3), num(4), arr(), obj()),
			func(p *wire.Packet) bool { return p.Kind == wire.Ping }},
		{"explicit network 0", ping(str("n"), num(0)), func(p *wire.Packet) bool { return p.Network == 0 }},
		{"network", ping(str("n"), num(42)), func(p *wire.Packet) bool { return p.Network == 42 }},
		{"client", ping(str("s"), []byte{0xc3}), func(p *wire.Packet) bool { return p.Client }},
		{"no arguments", obj(str("q"), str("ping")), func(p *wire.Packet) bool { return p.ID.IsZero() }},
		{"token as str", request("refresh", str("token"), str("tok")), func(p *wire.Packet) bool { return string(p.Token) == "tok" }},
		{"token as array", request("refresh", str("token"), arr(num(1), num(255))),
			func(p *wire.Packet) bool { return string(p.Token) == "\x01\xff" }},
		{"sid as str", request("listen", str("sid"), str("ab")), func(p *wire.Packet) bool { return p.SocketID == 0x61620000 }},
		{"n4 as str", obj(str("r"), obj(str("id"), id20, str("n4"), str(strings.Repeat("x", 26)))), func(p *wire.Packet) bool { return len(p.Nodes4) == 26 }},
		{"part data as str", obj(str("p"), obj(num(0), obj(str("o"), num(3), str("d"), str("xy")))),
			func(p *wire.Packet) bool {
				return p.Kind == wire.Part && string(p.Pieces[0].Data) == "xy" && p.Pieces[0].Offset == 3
			}},
		{"sa of odd length", obj(str("r"), obj(str("id"), id20, str("sa"), bin([]byte{1, 2, 3}))),
			func(p *wire.Packet) bool { return p.Kind == wire.Reply && !p.PublicAddr.IsValid() }},
		{"foreign family", request("find", str("target"), id20, str("w"), arr(num(2), num(30))),
			func(p *wire.Packet) bool { return p.Want == wire.Want4 }},
		{"only foreign families", request("find", str("target"), id20, str("w"), arr(num(30))),
			func(p *wire.Packet) bool { return p.Want == wire.WantNone }},
		{"negative c", request("put", str("c"), num(-5)), func(p *wire.Packet) bool { return p.HasCreated && p.Created == -5 }},
		{"mixed values", request("put", str("values"), arr(num(700), obj(), str("junk"), num(0), num(-1))), func(p *wire.Packet) bool {
			return len(p.Values) == 5 && p.Values[0].Size == 700 && p.Values[1].Raw != nil && p.Values[2].Raw != nil && p.Values[3].Raw != nil
		}},
		{"e wins over r", obj(str("r"), obj(str("id"), id20), str("e"), arr(num(401)), str("t"), num(1)),
			func(p *wire.Packet) bool { return p.Kind == wire.Error && p.Code == 401 && p.ID == someID }},
		{"e alone", obj(str("e"), arr(num(203), str("text"))),
			func(p *wire.Packet) bool { return p.Code == 203 && string(p.Text) == "text" && p.ID.IsZero() }},
		{"r wins over q", ping(str("r"), obj(str("id"), bin(someKey[:]))), func(p *wire.Packet) bool { return p.Kind == wire.Reply && p.ID == someKey }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p wire.Packet
			if err := p.Parse(tt.in); err != nil {
				t.Fatalf("Parse(%x): %v", tt.in, err)
			}
			if !tt.want(&p) {
				t.Errorf("Parse(%x) = %+v", tt.in, p)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	id20 := bin(someID[:])
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"empty", nil, wire.ErrMalformed},
		{"no map", str("q"), wire.ErrMalformed},
		{"truncated", request("ping")[:30], wire.ErrMalformed},
		{"header of 2^32 pairs", unhex(t, "df ffffffff a161"), wire.ErrMalformed},
		{"unknown query", request("foo"), wire.ErrUnknown},
		{"y is r without r", obj(str("a"), obj(str("id"), id20), str("q"), str("ping"), str("y"), str("r")), wire.ErrUnknown},
		{"empty map", obj(), wire.ErrUnknown},
		{"id as str", obj(str("a"), obj(str("id"), str(string(someID[:]))), str("q"), str("ping")), wire.ErrMalformed},
		{"id of 19 bytes", obj(str("a"), obj(str("id"), bin(someID[:19])), str("q"), str("ping")), wire.ErrMalformed},
		{"negative tid", obj(str("q"), str("ping"), str("t"), num(-1)), wire.ErrMalformed},
		{"tid beyond 32 bits", obj(str("q"), str("ping"), str("t"), num(1<<32)), wire.ErrMalformed},
		{"tid of 5 bytes", obj(str("q"), str("ping"), str("t"), str("abcde")), wire.ErrMalformed},
		{"v as integer", obj(str("q"), str("ping"), str("v"), num(1)), wire.ErrMalformed},
		{"sa as str", obj(str("r"), obj(str("sa"), str("abcd"))), wire.ErrMalformed},
		{"a as array", obj(str("a"), arr(), str("q"), str("ping")), wire.ErrMalformed},
		{"r as array", obj(str("r"), arr()), wire.ErrMalformed},
		{"u as integer", obj(str("u"), num(1)), wire.ErrMalformed},
		{"empty e", obj(str("e"), arr()), wire.ErrMalformed},
		{"e as map", obj(str("e"), obj()), wire.ErrMalformed},
		{"query without w", request("get", str("q"), obj(str("s"), arr())), wire.ErrMalformed},
		{"query on seq", request("get", str("q"), obj(str("s"), arr(), str("w"), arr(obj(str("f"), num(4), str("v"), num(0))))), wire.ErrMalformed},
		{"token too long", request("put", str("token"), bin(make([]byte, 200))), wire.ErrMalformed},
		{"nested too deeply", obj(str("zz"), append([]byte(strings.Repeat("\x91", 100)), 0xc0)), wire.ErrMalformed},
		{"part as array", obj(str("p"), arr(), str("y"), str("p")), wire.ErrMalformed},
		{"part offset beyond 32 bits", obj(str("p"), obj(num(0), obj(str("o"), num(1<<32), str("d"), bin(nil)))), wire.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p wire.Packet
			if err := p.Parse(tt.in); !errors.Is(err, tt.want) {
				t.Errorf("Parse(%x) = %v, want %v", tt.in, err, tt.want)
			}
		})
	}
}

// A packet that was used before keeps nothing of what it held.
func TestParseOverwritesAll(t *testing.T) {
	t.Parallel()
	packets := allPackets(t)
	var used wire.Packet
	for _, b := range packets {
		used.Parse(b)
	}
	for _, b := range packets {
		var fresh wire.Packet
		errFresh, errUsed := fresh.Parse(b), used.Parse(b)
		if (errFresh == nil) != (errUsed == nil) {
			t.Fatalf("fresh: %v, used: %v", errFresh, errUsed)
		}
		if errFresh == nil && string(fresh.Append(nil)) != string(used.Append(nil)) {
			t.Errorf("reused packet differs for %x", b)
		}
	}
}

func TestErrorCarriesID(t *testing.T) {
	t.Parallel()
	p := wire.Packet{Kind: wire.Error, ID: someID, TID: 3, Code: wire.CodeUnauthorized, Text: []byte(wire.TextPutToken)}
	var got wire.Packet
	if err := got.Parse(p.Append(nil)); err != nil || got.ID != someID || got.Code != 401 {
		t.Errorf("error reads back as %+v, %v", got, err)
	}
}

func TestNodeLists(t *testing.T) {
	t.Parallel()
	want := []dht.NodeAddr{
		{ID: someID, Addr: netip.MustParseAddrPort("192.0.2.7:4222")},
		{ID: someKey, Addr: netip.MustParseAddrPort("[2001:db8::7]:4223")},
	}
	p := wire.Packet{Kind: wire.Reply, ID: someID, Nodes4: want[0].Append(nil), Nodes6: want[1].Append(nil), Token: []byte("t")}
	var got wire.Packet
	if err := got.Parse(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	nodes, err := got.AppendNodes(nil)
	if diff := cmp.Diff(want, nodes, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("nodes differ (%v): %s", err, diff)
	}
	p.Nodes4 = p.Nodes4[:25]
	if _, err := p.AppendNodes(nil); !errors.Is(err, wire.ErrNodeList) {
		t.Errorf("odd list: %v", err)
	}
}

func TestParseFieldsRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"no fields":      obj(str("f"), arr(), str("v"), arr()),
		"incomplete row": obj(str("f"), arr(num(1), num(2)), str("v"), arr(num(1))),
		"unknown field":  obj(str("f"), arr(num(9)), str("v"), arr(num(1))),
		"no v":           obj(str("f"), arr(num(1))),
		"wrong cell":     obj(str("f"), arr(num(1)), str("v"), arr(str("x"))),
		"owner garbage":  obj(str("f"), arr(num(3)), str("v"), arr(bin([]byte("x")))),
	} {
		if _, _, err := wire.ParseFields(b); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The answer to s:[1,2,5,4] lists the fields ascending (§3.9).
func TestAppendFieldsNormalizes(t *testing.T) {
	t.Parallel()
	b := wire.AppendFields(nil, []dht.Field{1, 2, 5, 4, 1}, []*dht.Value{{ID: 9, UserType: "x"}})
	selected, rows, err := wire.ParseFields(b)
	if err != nil || !cmp.Equal(selected, []dht.Field{1, 2, 4, 5}) || len(rows) != 1 || rows[0].ID != 9 || rows[0].UserType != "x" {
		t.Errorf("got %v %v %v", selected, rows, err)
	}
}
