package provider

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func data(t testing.TB, s string) Data {
	t.Helper()
	d, err := ParseData([]byte(s))
	if err != nil {
		t.Fatalf("ParseData(%s): %v", s, err)
	}
	return d
}

func TestDataKeepsBytes(t *testing.T) {
	const in = `{"to":"a&b<c>","t":1795242961302,"pong":true,"n":1e3,"x":{"b":[1, 2]},"key":"é\u0041"}`
	const want = `{"key":"é\u0041","n":1e3,"pong":true,"t":1795242961302,"to":"a&b<c>","x":{"b":[1,2]}}`
	d := data(t, in)
	if got := string(d.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, want := range map[string]string{"t": "1795242961302", "pong": "true", "to": "a&b<c>", "key": "éA"} {
		if got, ok := d.Get(name); !ok || got != want {
			t.Errorf("Get(%s) = %q, %v, want %q", name, got, ok, want)
		}
	}
	if got := string(d.With("to", "<&>\"").Without("x", "n", "t", "pong").AppendJSON(nil)); got != `{"key":"é\u0041","to":"<&>\""}` {
		t.Errorf("With, Without = %s", got)
	}
}

func TestParseDataRefuses(t *testing.T) {
	var many []string
	for i := range MaxMembers + 1 {
		many = append(many, fmt.Sprintf(`"m%d":1`, i))
	}
	for _, in := range []string{"", "[]", `"x"`, "{", `{"a":}`, `{"a":1}{}`,
		"{" + strings.Join(many, ",") + "}", `{"a":"` + strings.Repeat("x", MaxData) + `"}`} {
		if _, err := ParseData([]byte(in)); err == nil {
			t.Errorf("ParseData(%.40s) succeeded", in)
		}
	}
}

func TestMerge(t *testing.T) {
	long := make([]string, MaxMergedIDs)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	for _, tc := range []struct{ name, older, newer, want string }{
		{"ids and types in step",
			`{"key":"k","to":"c","ids":"7,8","pt":",videoCall","t":1,"s":"S1"}`,
			`{"key":"k","to":"c","ids":"8,9","pt":"videoCall,","t":2,"s":"S2"}`,
			`{"ids":"7,8,9","key":"k","pt":",videoCall,","s":"S2","t":2,"to":"c"}`},
		{"no ids on one side means look at all",
			`{"key":"k","to":"c","t":1}`, `{"key":"k","to":"c","ids":"9","pt":"audioCall","t":2}`,
			`{"key":"k","pt":"audioCall","t":2,"to":"c"}`},
		{"no ids on both sides (2.4.12, 3.0.1)",
			`{"key":"k","to":"c","t":1}`, `{"key":"k","to":"c","t":2}`, `{"key":"k","t":2,"to":"c"}`},
		{"expired joins expired",
			`{"key":"k","to":"c","ids":"1","exp":"1"}`, `{"key":"k","to":"c","ids":"2","exp":"2"}`,
			`{"exp":"1,2","ids":"1,2","key":"k","to":"c"}`},
		{"expired with live loses the mark",
			`{"key":"k","to":"c","ids":"1","exp":"1"}`, `{"key":"k","to":"c","ids":"2"}`,
			`{"ids":"1,2","key":"k","to":"c"}`},
		{"reminder repeats",
			`{"timeout":"k","to":"c","s":"1"}`, `{"timeout":"k","to":"c","s":"2"}`, `{"s":"2","timeout":"k","to":"c"}`},
		{"too many", `{"key":"k","ids":"` + strings.Join(long, ",") + `"}`, `{"key":"k","ids":"x"}`, ""},
		{"too large", `{"key":"k","ids":"1","z":"` + strings.Repeat("x", maxMerged) + `"}`, `{"key":"k","ids":"2"}`,
			`{"ids":"1,2","key":"k"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := Merge(&Message{Data: data(t, tc.older)}, &Message{Data: data(t, tc.newer)})
			if ok != (tc.want != "") {
				t.Fatalf("ok = %v", ok)
			}
			if ok && string(got.Data.AppendJSON(nil)) != tc.want {
				t.Errorf("got  %s\nwant %s", got.Data.AppendJSON(nil), tc.want)
			}
		})
	}
}

func TestMergeKeepsTheUrgentSide(t *testing.T) {
	now := time.Unix(1000, 0)
	older := &Message{Data: data(t, `{"key":"k"}`), Priority: High, Kind: Alert, Title: "hello", Mutable: true, ExpiresAt: now.Add(time.Hour)}
	newer := &Message{Data: data(t, `{"key":"k"}`), Priority: Normal, Kind: Background, ExpiresAt: now}
	for _, pair := range [][2]*Message{{older, newer}, {newer, older}} {
		got, _ := Merge(pair[0], pair[1])
		if got.Priority != High || got.Kind != Alert || got.Title != "hello" || !got.Mutable || !got.ExpiresAt.Equal(older.ExpiresAt) {
			t.Errorf("merged to %+v", got)
		}
	}
}

func TestCoalesceKey(t *testing.T) {
	keys := map[string]string{}
	for _, s := range []string{`{"key":"k","to":"a"}`, `{"key":"k","to":"b"}`, `{"key":"l","to":"a"}`,
		`{"timeout":"k","to":"a"}`, `{"timeout":"k","to":"a","vid":"1"}`} {
		k := data(t, s).CoalesceKey()
		if k == "" || keys[k] != "" {
			t.Errorf("%s shares its key with %s", s, keys[k])
		}
		keys[k] = s
	}
	if k := data(t, `{"pong":true,"to":"a"}`).CoalesceKey(); k != "" {
		t.Errorf("ping has key %q", k)
	}
}

func TestTokenDoesNotPrint(t *testing.T) {
	tok := PushToken("very-secret")
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", tok, "msg", fmt.Sprintf("%v %s %#v", tok, tok, Target{Token: tok}))
	if strings.Contains(b.String(), "secret") {
		t.Errorf("token leaked: %s", b.String())
	}
}

func TestTTL(t *testing.T) {
	now := time.Unix(1000, 0)
	for left, want := range map[time.Duration]int64{0: 0, -time.Second: 0, time.Millisecond: 1, time.Second: 1, 24 * time.Hour: 86400} {
		if got := (&Message{ExpiresAt: now.Add(left)}).TTL(now); got != want {
			t.Errorf("TTL with %v left = %d, want %d", left, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, " 5 ": 5 * time.Second, "-1": 0, "soon": 0, "999999999": maxRetryAfter,
		"Sat, 21 Nov 2026 12:01:00 GMT": time.Minute, "Sat, 21 Nov 2026 11:01:00 GMT": 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {v}}, now); got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", v, got, want)
		}
	}
}

func FuzzData(f *testing.F) {
	f.Add([]byte(`{"ids":"7,8,9","key":"39b4be4d","pt":",videoCall,","s":"SE<>&","t":1795242964305,"to":"acct2"}`))
	f.Add([]byte(`{"pong":true,"to":"acct1"}`))
	f.Add([]byte(`{"a\u0000":"\ud800"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseData(in)
		if err != nil {
			return
		}
		out := d.AppendJSON(nil)
		if !json.Valid(out) {
			t.Fatalf("%q became invalid JSON %q", in, out)
		}
		if len(out) > MaxData { // escapes in names may grow it; then it is refused, not truncated
			return
		}
		again, err := ParseData(out)
		if err != nil {
			t.Fatalf("ParseData(%q): %v", out, err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Errorf("not stable: %s", diff)
		}
		d.CoalesceKey()
		if m, ok := Merge(&Message{Data: d}, &Message{Data: again}); ok && !json.Valid(m.Data.AppendJSON(nil)) {
			t.Errorf("merge made invalid JSON of %q", in)
		}
	})
}
