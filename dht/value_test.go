package dht_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/internal/msgpack"
)

func str(s string) []byte { return msgpack.AppendStr(nil, s) }
func num(n int64) []byte  { return msgpack.AppendInt(nil, n) }
func bin(b []byte) []byte { return msgpack.AppendBin(nil, b) }
func obj(pairs ...[]byte) []byte {
	return append(msgpack.AppendMapHeader(nil, len(pairs)/2), bytes.Join(pairs, nil)...)
}
func arr(elems ...[]byte) []byte {
	return append(msgpack.AppendArrayHeader(nil, len(elems)), bytes.Join(elems, nil)...)
}

func TestParseValueForms(t *testing.T) {
	t.Parallel()
	der := byName(t)["pubkey_der/alice"]
	key, err := dht.ParsePublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	body := func(extra ...[]byte) []byte {
		return obj(append([][]byte{str("type"), num(0), str("data"), bin([]byte("x"))}, extra...)...)
	}
	plain := func(b []byte) []byte { return obj(str("id"), num(1), str("dat"), obj(str("body"), b)) }
	signed := func(b []byte) []byte {
		return obj(str("id"), num(1), str("dat"), obj(str("body"), b, str("sig"), bin([]byte("s"))))
	}
	tests := []struct {
		name string
		in   []byte
		ok   bool
		want func(*dht.Value) bool // nil accepts any
	}{
		{"any order", obj(str("dat"), obj(str("body"), body()), str("p"), num(1), str("id"), num(1)), true,
			func(v *dht.Value) bool { return v.ID == 1 && v.Priority == 1 && string(v.Data) == "x" }},
		{"data as str", plain(obj(str("type"), num(3), str("data"), str("abc"))), true,
			func(v *dht.Value) bool { return string(v.Data) == "abc" && v.Type == 3 }},
		{"data as array", plain(obj(str("type"), num(0), str("data"), arr(num(104), num(105)))), true,
			func(v *dht.Value) bool { return string(v.Data) == "hi" }},
		{"empty cypher", obj(str("id"), num(1), str("dat"), bin(nil)), true,
			func(v *dht.Value) bool { return !v.IsEncrypted() && v.Type == 0 && len(v.Data) == 0 }},
		{"unknown keys", obj(str("id"), num(1), str("dat"), obj(str("body"), body(str("zz"), num(1)), str("y"), num(2)), str("x"), arr()), true, nil},
		{"id 0 is the receiver's business", obj(str("id"), num(0), str("dat"), obj(str("body"), body())), true, nil},
		{"sig without owner is dropped", signed(body()), true, func(v *dht.Value) bool { return v.Signature == nil }},
		{"seq without owner is dropped", plain(body(str("seq"), num(4))), true, func(v *dht.Value) bool { return v.Seq == 0 }},
		{"owner as DER", signed(body(str("owner"), bin(der), str("seq"), num(2))), true,
			func(v *dht.Value) bool { return v.Owner.Equal(key) && v.Seq == 2 && v.IsSigned() }},
		{"owner as PEM", signed(body(str("owner"), bin(key.PEM()), str("seq"), num(2))), true,
			func(v *dht.Value) bool { return v.Owner.Equal(key) }},
		{"owner without seq", signed(body(str("owner"), bin(der))), false, nil},
		{"owner without sig", plain(body(str("owner"), bin(der), str("seq"), num(2))), false, nil},
		{"owner with an empty sig", obj(str("id"), num(1), str("dat"), obj(str("body"), body(str("owner"), bin(der), str("seq"), num(2)), str("sig"), bin(nil))), false, nil},
		{"owner garbage", signed(body(str("owner"), bin([]byte("x")), str("seq"), num(2))), false, nil},
		{"recipient of 19 bytes", signed(body(str("owner"), bin(der), str("seq"), num(2), str("to"), bin(make([]byte, 19)))), false, nil},
		{"type beyond 16 bits", plain(obj(str("type"), num(65536), str("data"), bin(nil))), false, nil},
		{"seq beyond 16 bits", signed(body(str("owner"), bin(der), str("seq"), num(65536))), false, nil},
		{"no type", plain(obj(str("data"), bin(nil))), false, nil},
		{"no data", plain(obj(str("type"), num(0))), false, nil},
		{"no body", obj(str("id"), num(1), str("dat"), obj()), false, nil},
		{"no id", obj(str("dat"), obj(str("body"), body())), false, nil},
		{"no dat", obj(str("id"), num(1)), false, nil},
		{"dat as integer", obj(str("id"), num(1), str("dat"), num(1)), false, nil},
		{"no map", arr(), false, nil},
		{"a size", num(700), false, nil},
		{"empty", nil, false, nil},
	}
	for _, tt := range tests {
		v, _, err := dht.ParseValue(tt.in)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, dht.ErrMalformed) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if tt.ok && tt.want != nil && !tt.want(v) {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

// A parsed value holds no more than its own fields, and none of the input.
func TestParseValueOwnsItsBytes(t *testing.T) {
	t.Parallel()
	in := obj(str("id"), num(1), str("dat"), obj(str("body"), obj(str("type"), num(0), str("data"), bin([]byte("abc")))),
		str("padding"), bin(make([]byte, 50000)))
	v, _, err := dht.ParseValue(in)
	if err != nil {
		t.Fatal(err)
	}
	if cap(v.Data) > 16 {
		t.Errorf("keeps %d bytes alive", cap(v.Data))
	}
	for i := range in {
		in[i] = 0xff
	}
	if string(v.Data) != "abc" {
		t.Error("value aliases its input")
	}
}

// A signature covers the canonical body, whatever form it came in (§5.3).
func TestVerifyIsOverTheCanonicalBody(t *testing.T) {
	t.Parallel()
	want, _, err := dht.ParseValue(byName(t)["value/signed"])
	if err != nil {
		t.Fatal(err)
	}
	odd := obj(
		str("dat"), obj(
			str("sig"), bin(want.Signature),
			str("body"), obj(
				str("utype"), str(want.UserType),
				str("data"), str(string(want.Data)),
				str("foreign"), arr(num(1)),
				str("type"), []byte{0xce, 0, 0, 0, byte(want.Type)},
				str("owner"), bin(want.Owner.PEM()),
				str("seq"), []byte{0xd3, 0, 0, 0, 0, 0, 0, 0, byte(want.Seq)},
			)),
		str("id"), num(int64(want.ID)))
	got, _, err := dht.ParseValue(odd)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(); err != nil || !got.Equal(want) || !bytes.Equal(got.Append(nil), want.Append(nil)) {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestPublicKeyBounds(t *testing.T) {
	t.Parallel()
	if _, err := dht.ParsePublicKey(make([]byte, 5000)); !errors.Is(err, dht.ErrMalformed) {
		t.Error(err)
	}
	for _, b := range []string{"", "-----BEGIN PUBLIC KEY-----", "junk"} {
		if _, err := dht.ParsePublicKey([]byte(b)); !errors.Is(err, dht.ErrMalformed) {
			t.Errorf("ParsePublicKey(%q): %v", b, err)
		}
	}
	ec, err := dht.ParsePublicKey(byName(t)["pubkey_der/ca_ec"])
	if err != nil || ec.RSA() != nil {
		t.Fatalf("EC key: %v", err)
	}
	if err := ec.Verify([]byte("x"), []byte("y")); !errors.Is(err, dht.ErrBadSignature) {
		t.Error(err)
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	vs := byName(t)
	value := func(name string) *dht.Value {
		v, _, err := dht.ParseValue(vs[name])
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	change := func(name string, f func(*dht.Value)) *dht.Value {
		v := value(name).Clone()
		f(v)
		return v
	}
	signed := "value/signed_to"
	tests := []struct {
		name string
		a, b *dht.Value
		want bool
	}{
		{"itself", value(signed), value(signed), true},
		{"seq", value(signed), change(signed, func(v *dht.Value) { v.Seq++ }), true},
		{"to", value(signed), change(signed, func(v *dht.Value) { v.To = dht.InfoHash{1} }), true},
		{"priority", value(signed), change(signed, func(v *dht.Value) { v.Priority = 1 }), true},
		{"push type", value(signed), change(signed, func(v *dht.Value) { v.PushType = "x" }), true},
		{"id", value(signed), change(signed, func(v *dht.Value) { v.ID++ }), false},
		{"type", value(signed), change(signed, func(v *dht.Value) { v.Type++ }), false},
		{"data", value(signed), change(signed, func(v *dht.Value) { v.Data = nil }), false},
		{"user type", value(signed), change(signed, func(v *dht.Value) { v.UserType += "x" }), false},
		{"signature", value(signed), change(signed, func(v *dht.Value) { v.Signature[0]++ }), false},
		{"owner", value(signed), change(signed, func(v *dht.Value) { v.Owner = nil }), false},
		{"encrypted", value("value/encrypted"), value("value/encrypted"), true},
		{"cypher", value("value/encrypted"), change("value/encrypted", func(v *dht.Value) { v.Cypher[0]++ }), false},
	}
	for _, tt := range tests {
		if tt.a.Equal(tt.b) != tt.want || tt.b.Equal(tt.a) != tt.want {
			t.Errorf("%s: want %v", tt.name, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	v, _, err := dht.ParseValue(byName(t)["value/signed"])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := v.Size(), len(v.Data)+256+len("text/plain"); got != want {
		t.Errorf("Size = %d, want %d: owner and ids do not count", got, want)
	}
	if v.Footprint() < v.Size()+len(v.Owner.DER()) {
		t.Errorf("Footprint = %d leaves out the owner", v.Footprint())
	}
}

// 65,536 bytes of data with nothing else just fit what may be announced in
// parts, if the id is small (§4.3).
func TestLargestValue(t *testing.T) {
	t.Parallel()
	v := dht.Value{ID: 1, Data: make([]byte, dht.MaxValueSize)}
	if got := len(v.Append(nil)); got != 65568 {
		t.Errorf("%d bytes serialised, want 65568", got)
	}
	if _, err := dht.StoreIfSmall(dht.InfoHash{}, &v, netip.AddrPort{}); err != nil {
		t.Error(err)
	}
}

// Keys too small to be worth anything never verify; keys so large that
// verifying costs too much are not even parsed (§19.3, 25).
func TestRSASizeBounds(t *testing.T) {
	t.Parallel()
	der := func(bits uint) []byte {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		b, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for bits, want := range map[uint]struct{ parses, usable bool }{
		512: {true, false}, 1023: {true, false}, 1024: {true, true}, 8192: {true, true}, 8200: {false, false}, 16384: {false, false},
	} {
		k, err := dht.ParsePublicKey(der(bits))
		if (err == nil) != want.parses || err == nil && (k.RSA() != nil) != want.usable {
			t.Errorf("%d bits: %v", bits, err)
		}
		if err == nil && !errors.Is(k.Verify([]byte("m"), make([]byte, bits/8)), dht.ErrBadSignature) {
			t.Errorf("%d bits: verifies", bits)
		}
	}
}

func TestJSONForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		ok   bool
		want dht.Value
	}{
		{`{"id":"42","data":"aGVsbG8=","type":0}`, true, dht.Value{ID: 42, Data: []byte("hello")}},
		{`{"id":18446744073709551615,"data":"aGVsbG8","type":3}`, true, dht.Value{ID: 1<<64 - 1, Data: []byte("hello"), Type: 3}},
		{`{"id":"7 and more"}`, true, dht.Value{ID: 7}},
		{`{"id":"-1"}`, true, dht.Value{}},
		{`{"id":"18446744073709551616"}`, true, dht.Value{}},
		{`{"id":null,"data":null}`, true, dht.Value{}},
		{`{"data":"_-8","utype":"x","prio":1,"pt":"sync"}`, true, dht.Value{Data: []byte{0xff, 0xef}, UserType: "x", Priority: 1, PushType: "sync"}},
		{`{"type":65537}`, true, dht.Value{Type: 1}},
		{`{"sig":"AAAA","seq":4,"to":"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"}`, true, dht.Value{}},
		{`{"cypher":"AAEC","id":"1","data":"AAAA"}`, true, dht.Value{ID: 1, Cypher: []byte{0, 1, 2}}},
		{`{"data":"*"}`, false, dht.Value{}},
		{`{"owner":"junk"}`, false, dht.Value{}},
		{`{"type":"0"}`, false, dht.Value{}},
		{`[]`, false, dht.Value{}},
	}
	for _, tt := range tests {
		var got dht.Value
		err := json.Unmarshal([]byte(tt.in), &got)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.in, err)
		} else if tt.ok && !bytes.Equal(got.Append(nil), tt.want.Append(nil)) {
			t.Errorf("%s = %+v", tt.in, got)
		}
	}
}

// Members stand in byte order of their names, ids are texts (§5.5).
func TestJSONOutput(t *testing.T) {
	t.Parallel()
	v := dht.Value{ID: 1<<64 - 1, Data: []byte("hello"), UserType: "text/plain", Priority: 1}
	got, err := json.Marshal(&v)
	if want := `{"data":"aGVsbG8=","id":"18446744073709551615","prio":1,"type":0,"utype":"text/plain"}`; err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	signed, _, err := dht.ParseValue(byName(t)["value/signed_to"])
	if err != nil {
		t.Fatal(err)
	}
	if got, err = json.Marshal(signed); err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, member := range []string{"data", "id", "owner", "seq", "sig", "to", "type"} {
		i := strings.Index(string(got), `"`+member+`":`)
		if i <= at {
			t.Errorf("%s missing or out of order in %s", member, got)
		}
		at = i
	}
	if !strings.Contains(string(got), `-----BEGIN PUBLIC KEY-----\n`) {
		t.Errorf("owner is no PEM: %s", got)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"192.0.2.1:4222", "[2001:db8::1]:4222", "[::ffff:192.0.2.1]:4222"} {
		a := netip.MustParseAddrPort(s)
		want := netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if got, err := dht.ParseSockaddr(dht.AppendSockaddr(nil, a)); err != nil || got != want {
			t.Errorf("sockaddr of %s reads %v, %v", s, got, err)
		}
		n := dht.NodeAddr{ID: dht.HashText("n"), Addr: a}
		if got, err := dht.ParseNodeAddr(n.Append(nil)); err != nil || got.Addr != want || got.ID != n.ID {
			t.Errorf("node entry of %s reads %v, %v", s, got, err)
		}
	}
	if a, err := dht.ParseSockaddr(nil); err != nil || a.IsValid() {
		t.Errorf("empty sockaddr: %v, %v", a, err)
	}
	for _, b := range [][]byte{make([]byte, 16), make([]byte, 15), append([]byte{10, 0}, make([]byte, 14)...), append([]byte{2, 0}, make([]byte, 26)...), make([]byte, 200)} {
		if _, err := dht.ParseSockaddr(b); !errors.Is(err, dht.ErrMalformed) {
			t.Errorf("ParseSockaddr(%x): %v", b, err)
		}
	}
	if _, err := dht.ParseNodeAddr(make([]byte, 27)); !errors.Is(err, dht.ErrMalformed) {
		t.Error(err)
	}
}

func TestTypesDefaults(t *testing.T) {
	t.Parallel()
	var types dht.Types
	types.Register(dht.ValueType{ID: 7})
	for _, id := range []dht.ValueTypeID{7, 8} {
		vt := types.Get(id)
		if vt.ID != id || vt.Lifetime != 10*time.Minute || vt.Store == nil || vt.Edit == nil {
			t.Errorf("type %d: %+v", id, vt)
		}
	}
}
