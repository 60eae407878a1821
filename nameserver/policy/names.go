package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ErrName says that a name can never exist under the rule. A server answers
// 400.
var ErrName = errors.New("policy: impossible name")

// MaxNameBytes is the most bytes of a name in any form: 64 characters of four
// bytes each.
const MaxNameBytes = 4 * maxNameLength

// Names is the rule for names.
type Names struct {
	Unicode   bool // letters beyond ASCII
	MinLength int  // characters
	MaxLength int  // characters
}

// Key returns the lookup key of a name as a user wrote it: what must be
// unique. The key of a key is itself. The error wraps [ErrName].
func (n Names) Key(name string) (string, error) {
	if len(name) > MaxNameBytes {
		return "", fmt.Errorf("%w: longer than %d characters", ErrName, n.MaxLength)
	}
	key, ascii := lowerNameASCII(name)
	if !ascii {
		if !n.Unicode {
			return "", fmt.Errorf("%w: only letters a–z, digits, - and _ can be used", ErrName)
		}
		var err error
		if key, err = foldName(name); err != nil {
			return "", err
		}
	}
	if length := utf8.RuneCountInString(key); length < n.MinLength || length > n.MaxLength {
		return "", fmt.Errorf("%w: %d characters, want %d to %d", ErrName, length, n.MinLength, n.MaxLength)
	}
	if looksLikeAddress(key) {
		return "", fmt.Errorf("%w: it reads as an account id", ErrName)
	}
	return key, nil
}

// lowerNameASCII lower-cases a name of the ASCII rule and reports whether it
// was one.
func lowerNameASCII(name string) (string, bool) {
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return "", false
		}
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

// foldName returns the case-folded normal form C of a name of the Unicode
// rule. Folding can undo a normal form and the other way round, so both are
// repeated until nothing changes (Unicode 15 §3.13, D145).
func foldName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	}
	key := norm.NFC.String(name)
	for range 3 {
		next := norm.NFC.String(cases.Fold().String(norm.NFD.String(key)))
		if next == key {
			return key, checkRunes(key)
		}
		key = next
	}
	return "", fmt.Errorf("%w: has no stable folded form", ErrName)
}

// checkRunes allows letters, marks and decimal digits, '-' and '_', of scripts
// that are used together. That leaves out white space, controls, '@', '/',
// ':', invisible and directional formatting, symbols and private use.
func checkRunes(key string) error {
	for i, r := range key {
		switch {
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nd, r):
		case i > 0 && unicode.In(r, unicode.Mn, unicode.Mc):
		default:
			return fmt.Errorf("%w: %U cannot be used", ErrName, r)
		}
		if unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) {
			return fmt.Errorf("%w: %U is invisible", ErrName, r)
		}
	}
	return checkScripts(key)
}

// looksLikeAddress reports whether a key reads as an account id, with or
// without 0x in front.
func looksLikeAddress(key string) bool {
	key = strings.TrimPrefix(key, "0x")
	if len(key) != 40 {
		return false
	}
	for i := range len(key) {
		if c := key[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
