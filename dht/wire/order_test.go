package wire_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/msgpack"
)

// keysOf lists the keys of a map in order.
func keysOf(t testing.TB, b []byte) (keys []string, inner map[string][]byte) {
	t.Helper()
	r := msgpack.NewReader(b)
	inner = make(map[string][]byte)
	for n := r.MapLen(); n > 0; n-- {
		k := string(r.Str())
		keys = append(keys, k)
		inner[k] = r.Raw()
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return keys, inner
}

// The captures show no client-only node and not every combination; the order
// of §3 holds for those, too.
func TestKeyOrder(t *testing.T) {
	t.Parallel()
	all := wire.Packet{
		ID: someID, InfoHash: someKey, TID: 1, Network: 42, Client: true, Want: wire.Want4 | wire.Want6,
		HasQuery: true, Token: []byte("t"), ValueID: 1, HasValueID: true, SocketID: 5, Version: 1,
		Values: []wire.ValueRef{{Size: 700}}, Created: 9, HasCreated: true, PublicAddr: peerA.Addr(),
		Nodes4: make([]byte, 26), Nodes6: make([]byte, 38), Pieces: []wire.Piece{{Data: []byte("x")}},
	}
	news := func(p *wire.Packet) { p.Refreshed = []dht.ValueID{1} }
	tests := []struct {
		kind       wire.Kind
		change     func(*wire.Packet)
		top, inner []string
		in         string
	}{
		{wire.Ping, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id"}, "a"},
		{wire.Find, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "target", "w"}, "a"},
		{wire.Get, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "h", "q", "w"}, "a"},
		{wire.Put, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "h", "values", "c", "token"}, "a"},
		{wire.Refresh, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "h", "vid", "token"}, "a"},
		{wire.Listen, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "ve", "h", "token", "sid", "q"}, "a"},
		{wire.Update, nil, []string{"a", "q", "t", "y", "v", "n", "s"}, []string{"id", "ve", "h", "sid", "values", "c", "token"}, "a"},
		{wire.Update, news, []string{"a", "y", "v", "n", "s", "q", "t"}, []string{"id", "sid", "token", "re"}, "a"},
		{wire.Reply, nil, []string{"r", "t", "y", "v", "n", "s"}, []string{"id", "vid", "sa", "n4", "n6", "token", "values"}, "r"},
		{wire.Error, nil, []string{"e", "r", "t", "y", "v", "n", "s"}, []string{"id"}, "r"},
		{wire.Push, news, []string{"u", "y", "v", "n", "s", "t"}, []string{"id", "token", "re"}, "u"},
		{wire.Part, nil, []string{"n", "s", "y", "t", "p"}, nil, ""},
	}
	for _, tt := range tests {
		p := all
		p.Kind = tt.kind
		if tt.change != nil {
			tt.change(&p)
		}
		b := p.Append(nil)
		keys, inner := keysOf(t, b)
		if !slices.Equal(keys, tt.top) {
			t.Errorf("%v: top level %v, want %v", tt.kind, keys, tt.top)
		}
		if tt.in != "" {
			if keys, _ := keysOf(t, inner[tt.in]); !slices.Equal(keys, tt.inner) {
				t.Errorf("%v: %v, want %v", tt.kind, keys, tt.inner)
			}
		}
		var back wire.Packet
		if err := back.Parse(b); err != nil || back.Kind != tt.kind || !back.Client || back.Network != 42 {
			t.Errorf("%v reads back as %v: %v", tt.kind, back.Kind, err)
		}
	}
}

// Reversed keys mean the same (§2).
func TestParseAnyOrder(t *testing.T) {
	t.Parallel()
	for _, b := range allPackets(t) {
		r := msgpack.NewReader(b)
		n := r.MapLen()
		pairs := make([][]byte, 0, n)
		for range n {
			k, v := r.Raw(), r.Raw()
			pairs = append(pairs, slices.Concat(k, v))
		}
		slices.Reverse(pairs)
		reversed := slices.Concat(append([][]byte{msgpack.AppendMapHeader(nil, n)}, pairs...)...)
		var p, q wire.Packet
		if errP, errQ := p.Parse(b), q.Parse(reversed); (errP == nil) != (errQ == nil) {
			t.Fatalf("%x: %v, reversed %v", b, errP, errQ)
		} else if errP == nil && !bytes.Equal(p.Append(nil), q.Append(nil)) {
			t.Errorf("%x means something else reversed", b)
		}
	}
}

// A signed value's row has the whole key in the owner column (§3.9).
func TestFieldsOfSignedValue(t *testing.T) {
	t.Parallel()
	key, err := dhtcrypto.GenerateRSA(2048)
	if err != nil {
		t.Fatal(err)
	}
	v, err := dhtcrypto.SignValue(key, &dht.Value{ID: 4, Seq: 6, UserType: "x", Data: []byte("y")})
	if err != nil {
		t.Fatal(err)
	}
	b := wire.AppendFields(nil, []dht.Field{1, 3, 4}, []*dht.Value{v, {ID: 5}})
	if !bytes.Contains(b, key.Public().DER()) {
		t.Error("owner column holds no DER key")
	}
	_, rows, err := wire.ParseFields(b)
	if err != nil || len(rows) != 2 || rows[0].OwnerID != key.Public().ID() || !rows[0].Owner.Equal(key.Public()) ||
		rows[0].Seq != 6 || rows[1].ID != 5 || rows[1].Owner != nil || !rows[1].OwnerID.IsZero() {
		t.Errorf("rows %+v, %v", rows, err)
	}
	many := slices.Repeat([]*dht.Value{{ID: 1}}, wire.MaxRows+1)
	if _, rows, err := wire.ParseFields(wire.AppendFields(nil, []dht.Field{1}, many)); err != nil || len(rows) != wire.MaxRows {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// No input makes the parser allocate more than a small multiple of its size.
func TestParseAllocatesInProportion(t *testing.T) {
	hostile := map[string][]byte{
		"announced map":   unhex(t, "df ffffffff a161 80"),
		"announced array": obj(str("a"), obj(str("values"), unhex(t, "dd ffffffff 01"))),
		"many sizes":      request("put", str("values"), arr(slices.Repeat([][]byte{num(5)}, 4096)...)),
		"many ids":        request("update", str("re"), arr(slices.Repeat([][]byte{num(5)}, 8192)...)),
		"token as array":  request("put", str("token"), arr(slices.Repeat([][]byte{num(5)}, 60000)...)),
		"query": request("get", str("q"), obj(str("s"), arr(), str("w"),
			arr(slices.Repeat([][]byte{obj(str("f"), num(5), str("v"), bin(nil))}, 32)...))),
	}
	for name, b := range hostile {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var p wire.Packet
		err := p.Parse(b)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(100*len(b)+64<<10) {
			t.Errorf("%s: %d bytes allocated for %d (%v)", name, used, len(b), err)
		}
	}
}

// Ordinary messages leave no trace in the reassembler (§19.2, 8).
func TestWholeMessagesKeepNothing(t *testing.T) {
	t.Parallel()
	r := wire.NewReassembler(wire.DefaultReassemblyLimits())
	for _, b := range allPackets(t) {
		var p wire.Packet
		if p.Parse(b) != nil || p.Kind == wire.Part {
			continue
		}
		if _, out := r.Header(epoch, peerA, &p); out == wire.Whole {
			if sets, n := r.Usage(); sets != 0 || n != 0 {
				t.Fatalf("%v leaves %d sets, %d bytes", p.Kind, sets, n)
			}
		}
		r.Sweep(epoch.AddDate(0, 0, 1))
	}
}
