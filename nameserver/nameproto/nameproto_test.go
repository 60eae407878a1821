package nameproto

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

func testBody(tb testing.TB) string {
	return load[[]registrationVector](tb, "testdata/registrations.json")[0].Body
}

func TestParseRegistrationRefuses(t *testing.T) {
	t.Parallel()
	good := testBody(t)
	tests := []struct{ name, body, want string }{
		{"empty", "", "not JSON"},
		{"array", "[]", "not a JSON object"},
		{"number", "1", "not a JSON object"},
		{"no members", "{}", "address"},
		{"after the object", good + "{}", "not JSON"},
		{"member twice", strings.Replace(good, "{", `{"addr":"00",`, 1), "twice"},
		{"number for a string", strings.Replace(good, `"owner":"`, `"owner":1,"x":"`, 1), "not a string"},
		{"short address", strings.Replace(good, `"addr":"e2`, `"addr":"`, 1), "address"},
		{"letters in the address", strings.Replace(good, `"addr":"e2`, `"addr":"zz`, 1), "hex"},
		{"long owner", strings.Replace(good, `"owner":"`, `"owner":"`+strings.Repeat("a", MaxOwner), 1), "owner"},
		{"white space in base64", strings.Replace(good, `"signature":"`, `"signature":"\n`, 1), "base64"},
		{"long signature", strings.Replace(good, `"signature":"`, `"signature":"`+strings.Repeat("AAAA", 400), 1), "over"},
		{"long key", strings.Replace(good, `"publickey":"`, `"publickey":"`+strings.Repeat("AAAA", 1400), 1), "over"},
		{"huge", good + strings.Repeat(" ", MaxBody), "over"},
		{"name in capitals", strings.Replace(good, `"signature"`, `"Signature"`, 1), "signature: empty"},
	}
	for _, tt := range tests {
		_, err := ParseRegistration([]byte(tt.body))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one about %q", tt.name, err, tt.want)
		}
	}
}

// TestParseRegistrationLenient holds what a later client may change.
func TestParseRegistrationLenient(t *testing.T) {
	t.Parallel()
	good := testBody(t)
	want, err := ParseRegistration([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		strings.Replace(good, `"addr":"`, `"addr": "0x`, 1),
		" " + strings.ReplaceAll(good, `","`, "\",\n\t\""),
		strings.Replace(good, "{", `{"v":{"a":[1,2]},"name":null,`, 1),
		strings.Replace(good, `"owner"`, `"own\u0065r"`, 1),
		strings.Replace(good, "{", `{"name":"alice",`, 1),
	} {
		got, err := ParseRegistration([]byte(body))
		if err != nil {
			t.Errorf("%.60s: %v", body, err)
			continue
		}
		if string(AppendRegistration(nil, got)) != string(AppendRegistration(nil, want)) {
			t.Errorf("%.60s: decoded differently", body)
		}
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	const want = "e2c78a2541940127445eafcdbb101d06f778c32d"
	for _, s := range []string{want, "0x" + want, strings.ToUpper(want), "0X" + strings.ToUpper(want)} {
		a, err := ParseAddress(s)
		if err != nil || a.String() != want {
			t.Errorf("ParseAddress(%q) = %v, %v, want %s", s, a, err, want)
		}
	}
	for _, s := range []string{"", "0x", want[1:], want + "0", "0x" + want[2:], strings.Replace(want, "e", "g", 1)} {
		if _, err := ParseAddress(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseAddress(%q): %v, want ErrMalformed", s, err)
		}
	}
}

func TestSignVerify(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Sign(key, "zoé")
	if err != nil {
		t.Fatal(err)
	}
	e := r.Entry("zoé")
	for _, text := range [][]byte{r.PublicKey, append(r.PublicKey, 0), append(r.PublicKey, 0, 0)} {
		e.PublicKey = text
		if err := e.Verify(); err != nil {
			t.Errorf("Verify with %d bytes of key: %v", len(text), err)
		}
	}
	der, _ := PublicKeyDER(r.PublicKey)
	e.PublicKey = der
	if err := e.Verify(); err != nil {
		t.Errorf("Verify with a DER key: %v", err)
	}
	e.Name = "zoe"
	if err := e.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("Verify of another name: %v, want ErrSignature", err)
	}
	e = r.Entry("zoé")
	e.Addr[0] ^= 1
	if err := e.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("Verify of another address: %v, want ErrSignature", err)
	}
}

func TestParsePublicKeyRefuses(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	for name, b := range map[string][]byte{
		"empty":       nil,
		"no PEM":      []byte("key"),
		"small":       text(&small.PublicKey),
		"not RSA":     text(&ec.PublicKey),
		"two blocks":  append(text(&ec.PublicKey), text(&ec.PublicKey)...),
		"certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}),
		"empty DER":   {0x30, 0},
	} {
		if _, _, err := ParsePublicKey(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		string(AppendSuccess(nil)):          `{"success":true}`,
		string(AppendFailure(nil, `a "b"`)): `{"success":false,"error":"a \"b\""}`,
		string(AppendError(nil, "no\n")):    `{"error":"no\n"}`,
		string(AppendName(nil, "zoé")):      `{"name":"zoé"}`,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestLowerASCII(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"Alice": "alice", "ÉLODIE": "Élodie", "a-b_9": "a-b_9"} {
		if got := LowerASCII(in); got != want {
			t.Errorf("LowerASCII(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseRegistration(f *testing.F) {
	for _, v := range load[[]registrationVector](f, "testdata/registrations.json") {
		f.Add([]byte(v.Body))
	}
	f.Add([]byte(`{"addr":"0xE2c78a2541940127445eafcdbb101d06f778c32d","signature":"AA==","publickey":"AAA=","x":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRegistration(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v has no sentinel", err)
			}
			return
		}
		if len(r.PublicKey) > MaxPublicKey || len(r.Signature) > MaxSignature || len(r.Owner) > MaxOwner {
			t.Fatal("over a limit")
		}
		if _, ok := r.OwnerBytes(); !ok {
			r.Owner = "" // need not survive: it may want escaping
		}
		again, err := ParseRegistration(AppendRegistration(nil, r))
		if err != nil {
			t.Fatalf("own body refused: %v", err)
		}
		if string(AppendRegistration(nil, again)) != string(AppendRegistration(nil, r)) {
			t.Fatal("a second writing differs")
		}
		_, _ = PublicKeyDER(r.PublicKey)
	})
}

// FuzzPlainObject holds the quick decoder to the general one.
func FuzzPlainObject(f *testing.F) {
	for _, v := range load[[]registrationVector](f, "testdata/registrations.json")[:2] {
		f.Add([]byte(v.Body))
	}
	f.Add([]byte(`{"addr":"a","addr":"b"}`))
	f.Add([]byte(`{"addr":"a"}x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var quick, general [4]string
		if !parsePlainObject(b, registrationFields, quick[:]) {
			return
		}
		if err := parseAnyObject(b, registrationFields, general[:]); err != nil || quick != general {
			t.Fatalf("quick %q, general %q, %v", quick, general, err)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	for _, x := range load[[]exchange](f, "testdata/exchanges.json") {
		f.Add([]byte(x.Answer.Body))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := ParseName(b); err == nil {
			if m, err := ParseName(AppendName(nil, n)); err != nil || m != n {
				t.Fatalf("name %q became %q, %v", n, m, err)
			}
		}
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		again, err := ParseEntry(AppendEntry(nil, e))
		if err != nil || again.Name != e.Name || again.Addr != e.Addr {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := load[[]registrationVector](b, "testdata/registrations.json")[0]
	r, err := ParseRegistration([]byte(v.Body))
	if err != nil {
		b.Fatal(err)
	}
	e := r.Entry(v.Name)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRegistration(b *testing.B) {
	body := []byte(testBody(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRegistration(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEntry(b *testing.B) {
	r, err := ParseRegistration([]byte(testBody(b)))
	if err != nil {
		b.Fatal(err)
	}
	e, dst := r.Entry("alice"), make([]byte, 0, 4096)
	if strings.Contains(base64.StdEncoding.EncodeToString(e.Signature), "\n") {
		b.Fatal("line break")
	}
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendEntry(dst[:0], e)
	}
}
