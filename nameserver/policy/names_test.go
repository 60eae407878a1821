package policy

import (
	"errors"
	"strings"
	"testing"
)

var (
	asciiRule   = Names{MinLength: 3, MaxLength: 32}
	unicodeRule = Names{MinLength: 3, MaxLength: 32, Unicode: true}
)

func TestKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		ascii   string // "" means refused
		unicode string
	}{
		{"alice", "alice", "alice"},
		{"Mixed-Case_Name", "mixed-case_name", "mixed-case_name"},
		{"000", "000", "000"},
		{"-_-", "-_-", "-_-"},
		{"ab", "", ""},
		{strings.Repeat("a", 32), strings.Repeat("a", 32), strings.Repeat("a", 32)},
		{strings.Repeat("a", 33), "", ""},
		{"", "", ""},
		{"..", "", ""},
		{"a.b", "", ""},
		{"a b", "", ""},
		{"a@b", "", ""},
		{"a/b", "", ""},
		{"a:b", "", ""},
		{"a\x00b", "", ""},
		{"abc\n", "", ""},
		{"abc\xff", "", ""},
		{"Élodie", "", "élodie"},
		{"E\u0301lodie", "", "élodie"},
		{"STRASSE", "strasse", "strasse"},
		{"Straße", "", "strasse"},
		{"ΌΔΥΣΣΕΎΣ", "", "όδυσσεύσ"},
		{"山田太郎", "", "山田太郎"},
		{"taro山田たろう", "", "taro山田たろう"},
		{"김철수", "", "김철수"},
		{"pаypal", "", ""}, // Cyrillic а among Latin
		{"zoe\u200d", "", ""},
		{"zoe\u202e", "", ""},
		{"zoe\u00ad", "", ""},
		{"zoe\u3164", "", ""}, // Hangul filler: a letter, but invisible
		{"\u0301abc", "", ""},
		{"abc😀", "", ""},
		{"abc\ue000", "", ""},
		{"ⓐⓑⓒ", "", ""},
		{"𐌰𐌱𐌲", "", ""}, // Gothic
	}
	for _, tt := range tests {
		for _, rule := range []struct {
			n    Names
			want string
		}{{asciiRule, tt.ascii}, {unicodeRule, tt.unicode}} {
			got, err := rule.n.Key(tt.name)
			if got != rule.want || (err != nil) != (rule.want == "") || err != nil && !errors.Is(err, ErrName) {
				t.Errorf("Key(%q), unicode %v = %q, %v, want %q", tt.name, rule.n.Unicode, got, err, rule.want)
			}
		}
	}
}

func TestKeyRefusesAccountIDs(t *testing.T) {
	t.Parallel()
	long := Names{MinLength: 1, MaxLength: 64}
	id := "e2c78a2541940127445eafcdbb101d06f778c32d"
	for _, s := range []string{id, strings.ToUpper(id), "0x" + id} {
		if _, err := long.Key(s); !errors.Is(err, ErrName) {
			t.Errorf("Key(%q): %v, want ErrName", s, err)
		}
	}
	for _, s := range []string{id[1:], "x" + id, id + "0", "g" + id[1:]} {
		if _, err := long.Key(s); err != nil {
			t.Errorf("Key(%q): %v", s, err)
		}
	}
}

func TestSkeleton(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"paul", "pau1"}, {"bob", "b0b"}, {"marn", "mam"}, {"vvill", "will"}, {"ann", "аnn"},
		{"όδυσσεύσ", "ό\u03b4υσσεύσ"}, {"оо0", "0oo"}, {"zoé", "zoe\u0301"},
	} {
		if a, b := Skeleton(pair[0]), Skeleton(pair[1]); a != b {
			t.Errorf("%q and %q look alike, but have skeletons %q and %q", pair[0], pair[1], a, b)
		}
	}
	for _, pair := range [][2]string{{"a-b", "a_b"}, {"anna", "ana"}, {"zoé", "zoe"}, {"ana", "añа"}} {
		if a, b := Skeleton(pair[0]), Skeleton(pair[1]); a == b {
			t.Errorf("%q and %q share the skeleton %q", pair[0], pair[1], a)
		}
	}
	seen := make(map[rune]string)
	for _, group := range lookalikes {
		for _, r := range group {
			if other, ok := seen[r]; ok {
				t.Errorf("%U is in %q and in %q", r, other, group)
			}
			seen[r] = group
		}
	}
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{"alice", "Straße", "E\u0301lodie", "山田太郎", "ΌΔΥΣ", "\u0345abc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := unicodeRule.Key(s)
		if err != nil {
			if !errors.Is(err, ErrName) {
				t.Fatalf("error %v has no sentinel", err)
			}
			return
		}
		if again, err := unicodeRule.Key(key); again != key || err != nil {
			t.Fatalf("Key(%q) = %q, whose key is %q, %v", s, key, again, err)
		}
		if k := Skeleton(key); Skeleton(k) != k {
			t.Fatalf("skeleton %q of %q has another skeleton %q", k, key, Skeleton(k))
		}
		if ascii, err := asciiRule.Key(s); err == nil && ascii != key {
			t.Fatalf("Key(%q) is %q by one rule, %q by the other", s, ascii, key)
		}
	})
}
