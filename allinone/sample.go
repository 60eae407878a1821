package allinone

import (
	"fmt"
	"strings"
)

// section nests a role's sample file under a key, so that the file of the whole network explains every key of every role in the role's
// own words.
func section(name, sample string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n", name)
	for line := range strings.Lines(strings.TrimSpace(sample) + "\n") {
		if strings.TrimSpace(line) != "" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// setKey replaces the value of a dotted key in a sample file and keeps everything else, comments too. The value is YAML on one line. A
// block below the key is dropped with the old value. A key that the sample does not have is a bug and panics: samples show every key.
func setKey(sample, key, value string) string {
	lines := strings.SplitAfter(sample, "\n")
	path := strings.Split(key, ".")
	depth, indent := 0, -1
	for i, line := range lines {
		name, col, ok := keyOf(line)
		if !ok {
			continue
		}
		if depth > 0 && col <= indent {
			break // left the section without finding the key
		}
		if name != path[depth] || depth == 0 && col != 0 {
			continue
		}
		if depth++; depth < len(path) {
			indent = col
			continue
		}
		end := i + 1
		for end < len(lines) && belongsTo(lines[end], col) {
			end++
		}
		replaced := fmt.Sprintf("%s%s: %s%s\n", line[:col], name, value, comment(line))
		return strings.Join(lines[:i], "") + replaced + strings.Join(lines[end:], "")
	}
	panic("allinone: sample has no key " + key)
}

// keyOf returns the key that a line of a block mapping begins with and its column.
func keyOf(line string) (name string, col int, ok bool) {
	trimmed := strings.TrimLeft(line, " ")
	name, _, ok = strings.Cut(trimmed, ":")
	if !ok || strings.ContainsAny(name, " #-") {
		return "", 0, false
	}
	return name, len(line) - len(trimmed), true
}

// belongsTo reports whether a line is part of the block value of a key at column col: deeper, or a list item at the same column.
func belongsTo(line string, col int) bool {
	trimmed := strings.TrimLeft(line, " ")
	indent := len(line) - len(trimmed)
	return strings.TrimSpace(line) != "" && (indent > col || indent == col && strings.HasPrefix(trimmed, "- "))
}

// comment returns the comment at the end of a line, with the blanks before it.
func comment(line string) string {
	if i := strings.Index(line, " #"); i >= 0 {
		return strings.TrimRight("  "+strings.TrimSpace(line[i:]), "\n")
	}
	return ""
}

// dropKey removes a top-level key with its block and the comment lines directly above it. A key that is not there is left alone.
func dropKey(sample, key string) string {
	lines := strings.SplitAfter(sample, "\n")
	for i, line := range lines {
		name, col, ok := keyOf(line)
		if !ok || col != 0 || name != key {
			continue
		}
		begin, end := i, i+1
		for begin > 0 && strings.HasPrefix(lines[begin-1], "#") {
			begin--
		}
		for end < len(lines) && (belongsTo(lines[end], 0) || strings.TrimSpace(lines[end]) == "") {
			end++
		}
		return strings.Join(lines[:begin], "") + strings.Join(lines[end:], "")
	}
	return sample
}
