package dhtcrypto_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/internal/msgpack"
)

var (
	from  = netip.MustParseAddrPort("198.51.100.9:4444")
	place = dht.HashText("somewhere")
)

func TestLifetimes(t *testing.T) {
	t.Parallel()
	types := dhtcrypto.Types(nil)
	for id, want := range map[dht.ValueTypeID]time.Duration{
		0: 10 * time.Minute, 1: 5 * time.Minute, 2: 15 * time.Minute, 3: 5 * time.Minute,
		4: 7 * 24 * time.Hour, 5: time.Minute, 8: 7 * 24 * time.Hour, 6: 10 * time.Minute, 999: 10 * time.Minute,
	} {
		if got := types.Lifetime(id); got != want {
			t.Errorf("type %d: %v, want %v", id, got, want)
		}
	}
}

func TestStorePolicies(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	cert := parseValue(t, vs["value/certificate"])
	alice := loadIdentity(t, "alice").Key.Public()
	signed := parseValue(t, vs["value/signed"])
	forged := signed.Clone()
	forged.Data = append(forged.Data, '!')
	largeSigned := signed.Clone()
	largeSigned.Data = make([]byte, dht.MaxValueSize)
	largeSigned, err := dhtcrypto.SignValue(loadIdentity(t, "alice").Key, largeSigned)
	if err != nil {
		t.Fatal(err)
	}
	message := func(service string) []byte {
		return msgpack.AppendBin(msgpack.AppendStr(msgpack.AppendArrayHeader(nil, 2), service), []byte("x"))
	}
	unregistered := forged.Clone()
	unregistered.Type = 77
	tests := []struct {
		name string
		v    *dht.Value
		key  dht.InfoHash
		ok   bool
	}{
		{"plain", parseValue(t, vs["value/plain"]), place, true},
		{"65,536 bytes", &dht.Value{ID: 1, Data: make([]byte, 65536)}, place, true},
		{"65,537 bytes", &dht.Value{ID: 1, Data: make([]byte, 65537)}, place, false},
		{"65,536 bytes and a user type", &dht.Value{ID: 1, Data: make([]byte, 65536), UserType: "x"}, place, false},
		{"encrypted", parseValue(t, vs["value/encrypted"]), place, true},
		{"signed", signed, place, true},
		{"forged", forged, place, false},
		{"large and signed", largeSigned, place, false},
		{"forged, unregistered type", unregistered, place, true},
		{"message", parseValue(t, vs["type/DhtMessage"]), place, true},
		{"message without service", &dht.Value{ID: 1, Type: 1, Data: message("")}, place, false},
		{"message unreadable", &dht.Value{ID: 1, Type: 1, Data: []byte("junk")}, place, true},
		{"message empty", parseValue(t, vs["value/empty_data_type1"]), place, true},
		{"IM message", parseValue(t, vs["type/ImMessage"]), place, true},
		{"trust request", parseValue(t, vs["type/TrustRequest"]), place, true},
		{"ICE candidates", parseValue(t, vs["type/IceCandidates"]), place, true},
		{"service IPv4", parseValue(t, vs["type/IpServiceAnnouncement4"]), place, true},
		{"service IPv6", parseValue(t, vs["type/IpServiceAnnouncement6"]), place, true},
		{"service port 0", &dht.Value{ID: 1, Type: 2, Data: dhtcrypto.IPServiceData(netip.MustParseAddrPort("192.0.2.1:0"))}, place, false},
		{"service without address", &dht.Value{ID: 1, Type: 2, Data: msgpack.AppendBin(nil, nil)}, place, false},
		{"service garbage", &dht.Value{ID: 1, Type: 2, Data: []byte("x")}, place, false},
		{"certificate, short id", cert, alice.ID(), true},
		{"certificate, long id", cert, alice.LongID().Place(), true},
		{"certificate elsewhere", cert, place, false},
		{"certificate of 64 KiB", &dht.Value{ID: 1, Type: 8, Data: append(bytes.Clone(cert.Data), make([]byte, 65536)...)}, alice.ID(), false},
		{"certificate garbage", &dht.Value{ID: 1, Type: 8, Data: []byte("x")}, place, false},
	}
	types := dhtcrypto.Types(nil)
	for _, tt := range tests {
		got, err := types.Get(tt.v.Type).Store(tt.key, tt.v, from)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, dht.ErrRefused) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.ok && (got == nil || got.ID != tt.v.ID) {
			t.Errorf("%s: stores %v", tt.name, got)
		}
	}
}

// The stored announcement is of the source's address with the port announced.
func TestServiceIsRewritten(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	v := parseValue(t, vs["type/IpServiceAnnouncement4"])
	before := string(v.Data)
	store := dhtcrypto.Types(nil).Get(dht.TypeIPService).Store
	for _, src := range []netip.AddrPort{from, netip.MustParseAddrPort("[::ffff:198.51.100.9]:4444")} {
		got, err := store(place, v, src)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := dhtcrypto.ParseIPService(got.Data); err != nil || a != netip.MustParseAddrPort("198.51.100.9:5060") {
			t.Errorf("stored %v, %v", a, err)
		}
	}
	if got, err := store(place, v, netip.AddrPort{}); err != nil || string(got.Data) != before || string(v.Data) != before {
		t.Errorf("local value changed: %x, %v", got.Data, err)
	}
}

// The table of §7.1.
func TestEditPolicies(t *testing.T) {
	t.Parallel()
	vs := loadVectors(t, "values-crypto.jsonl")
	value := func(name string) *dht.Value { return parseValue(t, vs[name]) }
	change := func(name string, f func(*dht.Value)) *dht.Value {
		v := value(name)
		f(v)
		return v
	}
	signed, seq4, plain := value("value/signed"), value("value/signed_seq4"), value("value/plain")
	cert := value("value/certificate")
	alice := loadIdentity(t, "alice")
	leafOnly := dhtcrypto.CertificateValue(alice.Chain[:1])
	tests := []struct {
		name            string
		key             dht.InfoHash
		stored, offered *dht.Value
		ok              bool
	}{
		{"unsigned by unsigned", place, plain, change("value/plain", func(v *dht.Value) { v.Data = []byte("x") }), false},
		{"unsigned by signed", place, plain, signed, false},
		{"encrypted by signed", place, value("value/encrypted"), signed, false},
		{"higher seq", place, signed, seq4, true},
		{"lower seq", place, seq4, signed, false},
		{"other owner", place, signed, value("value/signed_bob"), false},
		{"without owner", place, signed, plain, false},
		{"without signature", place, signed, change("value/signed_seq4", func(v *dht.Value) { v.Signature = nil }), false},
		{"bad signature", place, signed, change("value/signed_seq4", func(v *dht.Value) { v.Signature[0] ^= 1 }), false},
		{"same seq, same body", place, signed, value("value/signed"), true},
		{"same seq, other body", place, signed, change("value/signed", func(v *dht.Value) { v.Data = []byte("x") }), false},
		{"certificate, same key", alice.Key.Public().ID(), cert, leafOnly, true},
		{"certificate, other key", alice.Key.Public().ID(), cert, dhtcrypto.CertificateValue(loadIdentity(t, "bob").Chain), false},
		{"certificate by user data", alice.Key.Public().ID(), cert, plain, false},
		{"signed by certificate", alice.Key.Public().ID(), signed, cert, false},
		{"unregistered", place, change("value/signed", func(v *dht.Value) { v.Type = 77 }), change("value/signed_seq4", func(v *dht.Value) { v.Type = 77 }), false},
	}
	types := dhtcrypto.Types(nil)
	for _, tt := range tests {
		_, err := types.Get(tt.offered.Type).Edit(tt.key, tt.stored, tt.offered, from)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, dht.ErrRefused) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A node may verify elsewhere: the policies ask what they were given.
func TestVerifierIsAsked(t *testing.T) {
	t.Parallel()
	v := parseValue(t, loadVectors(t, "values-crypto.jsonl")["value/signed"])
	asked := 0
	types := dhtcrypto.Types(func(*dht.Value) error { asked++; return dht.ErrBadSignature })
	if _, err := types.Get(0).Store(place, v, from); !errors.Is(err, dht.ErrBadSignature) || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}
