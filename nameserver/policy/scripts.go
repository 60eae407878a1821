package policy

import (
	"fmt"
	"unicode"
)

// scriptSet is a set of scripts of the list below, by bit.
type scriptSet uint64

// scripts are those recommended for identifiers (UAX #31, table 5). Letters of
// other scripts are refused under the Unicode rule: nobody could tell what
// they are confusable with.
var scripts = []*unicode.RangeTable{
	unicode.Latin, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Hangul,
	unicode.Greek, unicode.Cyrillic, unicode.Arabic, unicode.Armenian, unicode.Bengali,
	unicode.Devanagari, unicode.Ethiopic, unicode.Georgian, unicode.Gujarati, unicode.Gurmukhi,
	unicode.Hebrew, unicode.Kannada, unicode.Khmer, unicode.Lao, unicode.Malayalam,
	unicode.Myanmar, unicode.Oriya, unicode.Sinhala, unicode.Tamil, unicode.Telugu,
	unicode.Thaana, unicode.Thai, unicode.Tibetan,
}

// mixes are the sets that may appear in one name besides each script alone:
// the level "highly restrictive" of UTS #39 §5.2.
var mixes = []scriptSet{
	1<<0 | 1<<1 | 1<<2 | 1<<3, // Latin with Japanese
	1<<0 | 1<<1 | 1<<4,        // Latin with Chinese
	1<<0 | 1<<1 | 1<<5,        // Latin with Korean
}

func checkScripts(key string) error {
	var seen scriptSet
	for _, r := range key {
		if unicode.In(r, unicode.Common, unicode.Inherited) {
			continue
		}
		s := scriptOf(r)
		if s == 0 {
			return fmt.Errorf("%w: the script of %U cannot be used", ErrName, r)
		}
		seen |= s
	}
	if seen&(seen-1) == 0 {
		return nil
	}
	for _, m := range mixes {
		if seen&^m == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: letters of different scripts in one name", ErrName)
}

func scriptOf(r rune) scriptSet {
	for i, t := range scripts {
		if unicode.Is(t, r) {
			return 1 << i
		}
	}
	return 0
}
