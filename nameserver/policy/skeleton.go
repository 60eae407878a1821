package policy

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Skeleton maps a lookup key to the form it shares with keys that look like
// it. It follows the construction of UTS #39 §4 (decompose, replace each
// character by its prototype, decompose) with a table of our own, limited to
// what can be mistaken in the usual typefaces for lower-case letters of Latin,
// Greek and Cyrillic and for digits. A skeleton is compared, never shown.
func Skeleton(key string) string {
	var b strings.Builder
	b.Grow(len(key))
	for _, r := range norm.NFKD.String(key) {
		if p, ok := prototypes[r]; ok {
			r = p
		}
		b.WriteRune(r)
	}
	return norm.NFD.String(pairs.Replace(b.String()))
}

// pairs are two characters that read as one.
var pairs = strings.NewReplacer("rn", "m", "vv", "w")

// prototypes is made from lookalikes: each character of a group maps to the
// group's first.
var prototypes = func() map[rune]rune {
	m := make(map[rune]rune)
	for _, group := range lookalikes {
		g := []rune(group)
		for _, r := range g[1:] {
			m[r] = g[0]
		}
	}
	return m
}()

// lookalikes: a Latin letter or digit, then the digits and the letters of
// Latin, Greek, Cyrillic and Armenian that are drawn like it.
var lookalikes = []string{
	"aаαɑ", "bЬьƅ", "cсϲ", "dԁ", "eеҽ", "gɡց", "hһհ", "iіıιɩ", "jјϳ", "kкκ",
	"l1ӏǀו", "mм", "nոп", "o0оοօ", "pрρ", "qԛգ", "rгᴦ", "sѕꜱ", "tтτ", "uυսц", "vνѵ",
	"wԝѡա", "xхχ", "yуγү", "zᴢ", "3зʒ", "æӕ", "əә", "þϸ", "βßв",
}
