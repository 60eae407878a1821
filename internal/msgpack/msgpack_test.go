package msgpack_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	ref "github.com/vmihailenco/msgpack/v5"

	"github.com/jirani/jirani/internal/msgpack"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Another implementation reads what we write, at every width.
func TestAppendAgreesWithAnother(t *testing.T) {
	t.Parallel()
	var uints []uint64
	for bit := range 64 {
		uints = append(uints, 1<<bit-1, 1<<bit, 1<<bit+1)
	}
	for _, u := range append(uints, math.MaxUint64) {
		var got uint64
		b := msgpack.AppendUint(nil, u)
		if err := ref.Unmarshal(b, &got); err != nil || got != u {
			t.Errorf("AppendUint(%d) = %x reads %d, %v", u, b, got, err)
		}
		for _, i := range []int64{int64(u), -int64(u)} {
			var got int64
			b := msgpack.AppendInt(nil, i)
			if err := ref.Unmarshal(b, &got); err != nil || got != i {
				t.Errorf("AppendInt(%d) = %x reads %d, %v", i, b, got, err)
			}
			r := msgpack.NewReader(b)
			if back := r.Int(); back != i || r.Err() != nil || len(r.Rest()) != 0 {
				t.Errorf("Int(%x) = %d, %v", b, back, r.Err())
			}
		}
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000} {
		s := strings.Repeat("x", n)
		var gotS string
		if err := ref.Unmarshal(msgpack.AppendStr(nil, s), &gotS); err != nil || gotS != s {
			t.Errorf("str of %d: %v", n, err)
		}
		var gotB []byte
		if err := ref.Unmarshal(msgpack.AppendBin(nil, []byte(s)), &gotB); err != nil || string(gotB) != s {
			t.Errorf("bin of %d: %v", n, err)
		}
		array, object := msgpack.AppendArrayHeader(nil, n), msgpack.AppendMapHeader(nil, n)
		for i := range n {
			array = msgpack.AppendBool(array, i%2 == 0)
			object = msgpack.AppendNil(msgpack.AppendUint(object, uint64(i)))
		}
		var gotA []bool
		if err := ref.Unmarshal(array, &gotA); err != nil || len(gotA) != n {
			t.Errorf("array of %d: %v", n, err)
		}
		var gotM map[int]any
		if err := ref.Unmarshal(object, &gotM); err != nil || len(gotM) != n {
			t.Errorf("map of %d: %v", n, err)
		}
		for _, b := range [][]byte{array, object} {
			r := msgpack.NewReader(b)
			if r.Skip(); r.Err() != nil || len(r.Rest()) != 0 {
				t.Errorf("Skip over %d elements: %v", n, r.Err())
			}
		}
	}
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sec  int64
		nsec uint32
		want string
	}{
		{1, 0, "d6ff 00000001"},
		{1<<32 - 1, 0, "d6ff ffffffff"},
		{1 << 32, 0, "d7ff 0000000100000000"},
		{0, 1, "d7ff 0000000400000000"},
		{9223372036, 854775807, "d7ff cbcb5ffe25c17d04"}, // "never" in a 4.3 state file
		{1 << 34, 5, "c70cff 00000005 0000000400000000"},
		{-1, 0, "c70cff 00000000 ffffffffffffffff"},
	} {
		b := msgpack.AppendTimestamp(nil, tt.sec, tt.nsec)
		if want := unhex(t, tt.want); !bytes.Equal(b, want) {
			t.Errorf("AppendTimestamp(%d, %d) = %x, want %x", tt.sec, tt.nsec, b, want)
		}
		r := msgpack.NewReader(b)
		if sec, nsec := r.Timestamp(); sec != tt.sec || nsec != tt.nsec || r.Err() != nil {
			t.Errorf("Timestamp(%x) = %d, %d, %v", b, sec, nsec, r.Err())
		}
	}
	now := time.Date(2026, 11, 21, 7, 0, 0, 12345, time.UTC)
	r := msgpack.NewReader(msgpack.AppendTime(nil, now))
	if sec, nsec := r.Timestamp(); !time.Unix(sec, int64(nsec)).Equal(now) {
		t.Errorf("%d, %d", sec, nsec)
	}
}

func TestIntegerForms(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"05": 5, "cc05": 5, "cd0005": 5, "ce00000005": 5, "cf0000000000000005": 5,
		"d005": 5, "d10005": 5, "d200000005": 5, "d30000000000000005": 5,
		"ff": -1, "d0ff": -1, "d1ffff": -1, "d2ffffffff": -1, "d3ffffffffffffffff": -1, "e0": -32,
	} {
		r := msgpack.NewReader(unhex(t, in))
		if got := r.Int(); got != want || r.Err() != nil {
			t.Errorf("Int(%s) = %d, %v", in, got, r.Err())
		}
		r = msgpack.NewReader(unhex(t, in))
		if got := r.Uint(); want < 0 && r.Err() == nil || want >= 0 && got != uint64(want) {
			t.Errorf("Uint(%s) = %d, %v", in, got, r.Err())
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		read     func(*msgpack.Reader)
	}{
		{"empty", "", (*msgpack.Reader).Skip},
		{"unused head byte", "c1", (*msgpack.Reader).Skip},
		{"truncated integer", "ce0000", func(r *msgpack.Reader) { r.Uint() }},
		{"truncated str", "a3 6162", func(r *msgpack.Reader) { r.Str() }},
		{"bin of 4 GiB", "c6 ffffffff 00", func(r *msgpack.Reader) { r.Bin() }},
		{"array of 4 Gi", "dd ffffffff 00", func(r *msgpack.Reader) { r.ArrayLen() }},
		{"map of 4 Gi", "df ffffffff 0000", func(r *msgpack.Reader) { r.MapLen() }},
		{"map with half a pair", "81 00", func(r *msgpack.Reader) { r.MapLen() }},
		{"too deep", strings.Repeat("91", 40) + "c0", (*msgpack.Reader).Skip},
		{"str for bin", "a161", func(r *msgpack.Reader) { r.Bin() }},
		{"negative", "ff", func(r *msgpack.Reader) { r.Uint() }},
		{"uint64 for int64", "cf ffffffffffffffff", func(r *msgpack.Reader) { r.Int() }},
		{"out of range", "cd 0100", func(r *msgpack.Reader) { r.UintMax(255) }},
		{"blob with a large element", "91 cd 0100", func(r *msgpack.Reader) { r.Blob() }},
		{"timestamp of 5 bytes", "c705ff 0000000000", func(r *msgpack.Reader) { r.Timestamp() }},
		{"timestamp of another type", "d601 00000000", func(r *msgpack.Reader) { r.Timestamp() }},
		{"timestamp with 2^30-1 ns", "d7ff fffffffc00000000", func(r *msgpack.Reader) { r.Timestamp() }},
	}
	for _, tt := range tests {
		r := msgpack.NewReader(unhex(t, tt.in))
		tt.read(&r)
		if err := r.Err(); !errors.Is(err, msgpack.ErrMalformed) {
			t.Errorf("%s: %v", tt.name, err)
		}
		first := r.Err()
		if r.Skip(); r.Err() != first {
			t.Errorf("%s: the first error was lost", tt.name)
		}
	}
}

func TestBlobForms(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"c403 0102ff", "a3 0102ff", "93 01 02 ccff", "d903 0102ff"} {
		r := msgpack.NewReader(unhex(t, in))
		if got := r.Blob(); !bytes.Equal(got, []byte{1, 2, 255}) || r.Err() != nil {
			t.Errorf("Blob(%s) = %x, %v", in, got, r.Err())
		}
	}
}

// Raw and Skip agree with another implementation on where an object ends.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"82a2696401a364617481a4626f647982a47479706500a464617461c40568656c6c6f",
		"d7ffcbcb5ffe25c17d04", "dc0002c0c3", "de0001a1610a", "cb3ff0000000000000", "c7030101020304"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := msgpack.NewReader(b)
		raw := r.Raw()
		if r.Err() != nil {
			if raw != nil || !errors.Is(r.Err(), msgpack.ErrMalformed) {
				t.Fatalf("raw %x with %v", raw, r.Err())
			}
			return
		}
		if len(raw)+len(r.Rest()) != len(b) || len(raw) == 0 {
			t.Fatalf("%d raw and %d left of %d", len(raw), len(r.Rest()), len(b))
		}
		in := bytes.NewReader(b)
		if err := ref.NewDecoder(in).Skip(); err == nil && in.Len() != len(r.Rest()) {
			t.Fatalf("object ends with %d left, another implementation says %d", len(r.Rest()), in.Len())
		}
		for _, read := range []func(*msgpack.Reader){
			func(r *msgpack.Reader) { r.Uint() }, func(r *msgpack.Reader) { r.Int() }, func(r *msgpack.Reader) { r.Str() },
			func(r *msgpack.Reader) { r.Blob() }, func(r *msgpack.Reader) { r.ArrayLen() }, func(r *msgpack.Reader) { r.MapLen() },
			func(r *msgpack.Reader) { r.Ext() }, func(r *msgpack.Reader) { r.Timestamp() }, func(r *msgpack.Reader) { r.Bool() },
		} {
			r := msgpack.NewReader(b)
			if read(&r); r.Offset() > len(b) {
				t.Fatal("read past the end")
			}
		}
	})
}

func BenchmarkSkipValue(b *testing.B) {
	in := unhex(b, "82a2696401a364617481a4626f647982a47479706500a464617461c40568656c6c6f")
	b.ReportAllocs()
	for b.Loop() {
		r := msgpack.NewReader(in)
		r.Skip()
	}
}
