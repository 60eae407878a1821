package turnclient

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/stun/v3"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The responses of RFC 5769 §2.2 and §2.3: SOFTWARE, XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT.
var rfc5769 = map[string]string{
	"192.0.2.1:32853": "0101003c 2112a442 b7e7a701bc34d686fa87dfae" +
		"8022 000b 7465737420766563746f72 20" + "0020 0008 0001a147 e112a643" +
		"0008 0014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7" + "8028 0004 c07d4c96",
	"[2001:db8:1234:5678:11:2233:4455:6677]:32853": "01010048 2112a442 b7e7a701bc34d686fa87dfae" +
		"8022 000b 7465737420766563746f72 20" + "0020 0014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9" +
		"0008 0014 a382954e4be67bf11784c97c8292c275bfe3ed41" + "8028 0004 c8fb0b4c",
}

func TestRFC5769Responses(t *testing.T) {
	key := stun.NewShortTermIntegrity("VOkJxbRl1RmTxUk/WvJxBt")
	for want, vector := range rfc5769 {
		m, err := parse(unhex(t, vector))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := address(m, stun.AttrXORMappedAddress); err != nil || got.String() != want {
			t.Errorf("mapped address %v, %v; want %s", got, err, want)
		}
		if !authentic(m, key) || authentic(m, key[1:]) {
			t.Error("integrity is judged wrongly")
		}
		flipped := unhex(t, vector)
		flipped[25] ^= 1
		if _, err := parse(flipped); !errors.Is(err, ErrMalformed) {
			t.Errorf("a flipped bit: %v, want %v", err, ErrMalformed)
		}
	}
}

// The request of RFC 5769 §2.4, with long-term credentials: the key made from a challenge is the one that signed it.
func TestRFC5769LongTerm(t *testing.T) {
	m, err := parse(unhex(t, "00010060 2112a442 78ad3433c6ad72c029da412e"+
		"0006 0012 e3839ee38388e383aae38383e382afe382b9 0000"+
		"0015 001c 662f2f3439396b39353464364f4c33346f4c394653547679363473 41"+
		"0014 000b 6578616d706c652e6f7267 00"+
		"0008 0014 f67024656dd64a3e02b8e0712e85c9a28ca89666"))
	if err != nil {
		t.Fatal(err)
	}
	c := credentials{username: "マトリックス", password: "TheMatrIX"}
	challenge := message(stun.MethodAllocate, stun.ClassErrorResponse, bytesAttr(stun.AttrRealm, []byte("example.org")...), bytesAttr(stun.AttrNonce, 'n'))
	if !c.challenged(challenge, 401, nil) || c.key.Check(m) != nil {
		t.Error("the key is not the one that signed")
	}
}

// A peer address is written as it is read.
func TestPeerAddress(t *testing.T) {
	for _, want := range []string{"192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", "[::ffff:192.0.2.1]:1"} {
		peer := netip.MustParseAddrPort(want)
		got, err := address(message(stun.MethodSend, stun.ClassIndication, peerAttr(peer)), stun.AttrXORPeerAddress)
		if err != nil || got != netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()) {
			t.Errorf("wrote %v, read %v, %v", peer, got, err)
		}
	}
}

func TestReason(t *testing.T) {
	for in, want := range map[string]string{
		"Forbidden": "Forbidden", "a\x1b[2Jb\r\n\xff\x00": "a[2Jb", strings.Repeat("x", 700): strings.Repeat("x", maxReason), "Verboten für dich": "Verboten für dich",
	} {
		if got := printable([]byte(in)); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseURI(t *testing.T) {
	for in, want := range map[string]Server{
		"turn:relay.example.org":                     {"relay.example.org", 3478, UDP},
		"turn:relay.example.org:99?transport=tcp":    {"relay.example.org", 99, TCP},
		"turns:relay.example.org":                    {"relay.example.org", 5349, TLS},
		"turns:relay.example.org:5349?transport=udp": {"relay.example.org", 5349, DTLS},
		"turn:[2001:db8::1]:3478":                    {"2001:db8::1", 3478, UDP},
		"relay.example.org":                          {"relay.example.org", 3478, UDP},
		"192.0.2.1:3479":                             {"192.0.2.1", 3479, UDP},
	} {
		if got, err := ParseURI(in); err != nil || got != want {
			t.Errorf("ParseURI(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "turn:", "http://relay.example.org", "turn:relay.example.org:0", "turn:relay.example.org:99999", "turn:h?transport=sctp"} {
		if got, err := ParseURI(in); err == nil {
			t.Errorf("ParseURI(%q) = %v, want an error", in, got)
		}
	}
}

// Whatever a stream brings, frames are read whole, within their bound, and nothing behind them is.
func FuzzReadFrame(f *testing.F) {
	for _, vector := range rfc5769 {
		f.Add(unhex(f, vector))
	}
	f.Add(appendChannelData(nil, 0x4000, []byte("hello"), true))
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte{0x7f, 0xff, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		var buf []byte
		for {
			before := r.Len()
			frame, err := readFrame(r, buf)
			if err != nil {
				if r.Len() > 0 && !errors.Is(err, ErrMalformed) || errors.Is(err, io.EOF) && before > 0 {
					t.Fatalf("%v with %d of %d bytes left", err, r.Len(), before)
				}
				return
			}
			at := len(b) - before
			if len(frame) != before-r.Len() || len(frame) > maxFrame || !bytes.Equal(frame, b[at:at+len(frame)]) {
				t.Fatalf("frame %x of %x", frame, b[at:])
			}
			if number, data, ok := channelData(frame); ok {
				if again := appendChannelData(nil, number, data, true); len(again) != len(frame) || !bytes.Equal(again[:4+len(data)], frame[:4+len(data)]) {
					t.Fatalf("channel data %x, again %x", frame, again)
				}
			}
			buf = frame
		}
	})
}

// Whatever a datagram holds, decoding neither panics nor finds an address that would be written otherwise.
func FuzzMessage(f *testing.F) {
	for _, vector := range rfc5769 {
		f.Add(unhex(f, vector))
	}
	refusal := message(stun.MethodAllocate, stun.ClassErrorResponse, func(m *stun.Message) {
		_ = stun.CodeStaleNonce.AddTo(m)
		_ = (stun.UnknownAttributes{1, 2}).AddTo(m)
		_ = (&stun.AlternateServer{IP: []byte{192, 0, 2, 1}, Port: 1}).AddTo(m)
		_ = stun.NewLongTermIntegrity("a", "b", "c").AddTo(m)
	})
	f.Add(refusal.Raw)
	f.Add(dataIndication(peerA, "data").Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		channelData(b)
		m, err := parse(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		_ = errorOf(m).Error()
		understood(m)
		authentic(m, stun.NewLongTermIntegrity("a", "b", "c"))
		number(m, stun.AttrLifetime)
		all, _ := addresses(m, stun.AttrXORPeerAddress)
		for _, a := range all {
			again := message(stun.MethodSend, stun.ClassIndication, peerAttr(a))
			if got, err := address(again, stun.AttrXORPeerAddress); err != nil || got != netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) {
				t.Fatalf("%v is written as %v, %v", a, got, err)
			}
		}
	})
}
