package unifiedpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

// vectors is testdata/webpush.json.
type vectors struct {
	ReceiverPublic  string  `json:"receiver_public_key"`
	ReceiverPrivate string  `json:"receiver_private_key"`
	Auth            string  `json:"auth_secret"`
	RFC             example `json:"rfc8291_example"`
	Jami            example `json:"jami_example"`
	Upstream        []struct {
		Body      string `json:"body_base64"`
		Plaintext string
	} `json:"upstream_4.3.1_messages"`
}

type example struct {
	SenderPrivate string `json:"sender_private_key"`
	Salt          string
	Plaintext     string
	Body          string
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/webpush.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func bytes64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := decode64(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectorsDecrypt opens the RFC's message, a Jami-shaped one and those of upstream 4.3.1 with the simulator's
// decryption, so that it may judge what we send.
func TestVectorsDecrypt(t *testing.T) {
	v := load(t)
	sub, err := fake.RestoreSubscription("https://push.example/x", bytes64(t, v.ReceiverPrivate), bytes64(t, v.Auth))
	if err != nil {
		t.Fatal(err)
	}
	if want := v.ReceiverPublic + "|" + v.Auth; sub.Topic() != want {
		t.Errorf("topic %s, want %s", sub.Topic(), want)
	}
	bodies := map[string]string{v.RFC.Body: v.RFC.Plaintext, v.Jami.Body: v.Jami.Plaintext}
	for _, u := range v.Upstream {
		bodies[u.Body] = u.Plaintext
	}
	if len(bodies) != 4 {
		t.Fatalf("%d messages", len(bodies))
	}
	for body, want := range bodies {
		got, err := sub.Decrypt(bytes64(t, body))
		if err != nil || string(got) != want {
			t.Errorf("decrypted to %q, %v; want %q", got, err, want)
		}
	}
}

// TestVectorsEncrypt gives our encryption the RFC's sender key and salt, which are drawn at random otherwise, and
// compares every byte.
func TestVectorsEncrypt(t *testing.T) {
	v := load(t)
	keys, err := parseKeys(v.ReceiverPublic + "|" + v.Auth)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []example{v.RFC, v.Jami} {
		sender, err := ecdh.P256().NewPrivateKey(bytes64(t, x.SenderPrivate))
		if err != nil {
			t.Fatal(err)
		}
		got, err := keys.seal([]byte(x.Plaintext), 0, sender, [saltLen]byte(bytes64(t, x.Salt)))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimRight(x.Body, "="); encode64(got) != want {
			t.Errorf("%q encrypts to %s, want %s", x.Plaintext, encode64(got), want)
		}
	}
}

// TestIndependentDecryption has Python's cryptography package open what we send.
func TestIndependentDecryption(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		if os.Getenv("JIRANI_REQUIRE") == "1" {
			t.Fatalf("needs %s with the cryptography package", python)
		}
		t.Skipf("needs %s with the cryptography package", python)
	}
	var body []byte
	p, srv := sink(t, func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) })
	v := load(t)
	const data = `{"ids":"13","key":"3e78","pt":"videoCall"}`
	m := hint(t, srv.URL+"/upX?up=1", v.ReceiverPublic+"|"+v.Auth, data)
	if out := p.Send(t.Context(), m); out.Verdict != provider.Delivered {
		t.Fatalf("%+v", out)
	}
	cmd := exec.Command(python, "testdata/decrypt.py", v.ReceiverPrivate, v.Auth, encode64(body))
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != data {
		t.Errorf("Python read %q, %v", out, err)
	}
}

func TestKeys(t *testing.T) {
	v := load(t)
	pub, auth := bytes64(t, v.ReceiverPublic), bytes64(t, v.Auth)
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		keys, err := parseKeys(e.EncodeToString(pub) + "|" + e.EncodeToString(auth))
		if err != nil || !bytes.Equal(keys.public.Bytes(), pub) || !bytes.Equal(keys.auth, auth) {
			t.Errorf("keys %+v %v", keys, err)
		}
	}
	bad := append([]byte{}, pub...)
	bad[64] ^= 1
	for _, topic := range []string{"|", "x|y", v.ReceiverPublic + "|", encode64(bad) + "|" + v.Auth, v.ReceiverPublic + "|" + v.Auth + "AA"} {
		if keys, err := parseKeys(topic); err == nil {
			t.Errorf("parseKeys(%.20s…) = %v", topic, keys)
		}
	}
	if keys, err := parseKeys("com.example"); keys != nil || err != nil {
		t.Errorf("topic without keys: %v %v", keys, err)
	}
}

// FuzzKeys: whatever passes for keys can be encrypted for.
func FuzzKeys(f *testing.F) {
	v := load(f)
	f.Add(v.ReceiverPublic + "|" + v.Auth)
	f.Add("a|b")
	f.Fuzz(func(t *testing.T, topic string) {
		keys, err := parseKeys(topic)
		if err != nil || keys == nil {
			return
		}
		if body, err := keys.encrypt([]byte("{}")); err != nil || len(body) != bucket {
			t.Errorf("parseKeys(%q): body of %d bytes, %v", topic, len(body), err)
		}
	})
}
