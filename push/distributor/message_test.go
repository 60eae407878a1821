package distributor

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"
)

func TestIDs(t *testing.T) {
	for _, seq := range []int64{0, 1, 61, 62, 1795244771123456, maxSeq - 1} {
		id := formatID(seq)
		if got, ok := parseID(id); !ok || got != seq || len(id) != idLen {
			t.Errorf("%d is %s is %d, %v", seq, id, got, ok)
		}
	}
}

func FuzzSince(f *testing.F) {
	for _, s := range []string{"", "all", "none", "latest", "10m", "1795244771", formatID(1795244771123456), "LaZ68JP2SJ95", "-5", "9e9"} {
		f.Add(s, true)
	}
	now := time.Unix(1795244771, 0)
	f.Fuzz(func(t *testing.T, s string, poll bool) {
		p, ok := parseSince(s, poll, now)
		if ok && p.after < 0 {
			t.Errorf("parseSince(%q) = %+v", s, p)
		}
		if seq, ok := parseID(s); ok && formatID(seq) != s {
			t.Errorf("id %q is %q again", s, formatID(seq))
		}
	})
}

func FuzzMessageJSON(f *testing.F) {
	f.Add([]byte(`{"key":"39b4"}`), false)
	f.Add([]byte{0xff, 0}, true)
	f.Fuzz(func(t *testing.T, body []byte, binary bool) {
		m := &message{seq: 1795244771123456, topic: "upX", body: body, binary: binary, expires: 1795287972}
		var e event
		if err := json.Unmarshal(m.appendJSON(nil), &e); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		got := []byte(e.Message)
		if e.Encoding == "base64" {
			got, _ = base64.StdEncoding.DecodeString(e.Message)
		}
		if string(got) != string(body) {
			t.Errorf("%q became %q", body, got)
		}
	})
}
