package nameproto

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

type registrationVector struct {
	Name  string
	Body  string
	Valid bool
	Why   string
}

type exchange struct {
	Request struct{ Method, Target, Body string }
	Answer  struct {
		Status int
		Body   string
	}
}

func load[T any](tb testing.TB, file string) (v T) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	return v
}

// TestRegistrationVectors decodes bodies that a real client sent, checks them
// and writes them again byte for byte.
func TestRegistrationVectors(t *testing.T) {
	t.Parallel()
	for _, v := range load[[]registrationVector](t, "testdata/registrations.json") {
		t.Run(v.Name+"/"+v.Why, func(t *testing.T) {
			r, err := ParseRegistration([]byte(v.Body))
			if err == nil {
				if got := string(AppendRegistration(nil, r)); got != v.Body {
					t.Errorf("written again:\n%s\nwant\n%s", got, v.Body)
				}
				err = r.Entry(v.Name).Verify()
			}
			if (err == nil) != v.Valid {
				t.Errorf("valid = %v (%v), want %v", err == nil, err, v.Valid)
			}
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
				t.Errorf("error %v has no sentinel", err)
			}
			if v.Valid && !strings.HasSuffix(string(r.PublicKey), "-----\n\x00") {
				t.Error("the recorded key has a NUL after the PEM text")
			}
		})
	}
}

// TestExchangeVectors reads the recorded answers as a client does, and makes
// each body again from what it says.
func TestExchangeVectors(t *testing.T) {
	t.Parallel()
	for _, x := range load[[]exchange](t, "testdata/exchanges.json") {
		if x.Answer.Status != StatusOK || x.Request.Method != "GET" {
			continue
		}
		plain := strings.NewReplacer(": ", ":", ", ", ",").Replace(x.Answer.Body)
		var got []byte
		if name, ok := strings.CutPrefix(x.Request.Target, "/name/"); ok {
			e, err := ParseEntry([]byte(x.Answer.Body))
			if err != nil || e.Name != name {
				t.Fatalf("ParseEntry: %q, %v, want %q", e.Name, err, name)
			}
			if err := e.Verify(); err != nil {
				t.Errorf("recorded entry: %v", err)
			}
			got = AppendEntry(nil, e)
		} else {
			name, err := ParseName([]byte(x.Answer.Body))
			if err != nil {
				t.Fatal(err)
			}
			got = AppendName(nil, name)
		}
		if string(got) != plain {
			t.Errorf("%s\ngot  %s\nwant %s", x.Request.Target, got, plain)
		}
	}
}
