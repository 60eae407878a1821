// Package coturnconf reads coturn's turnserver.conf and translates it into a configuration of this server.
//
// The file has one option per line, as on coturn's command line without the dashes: "name", "name=value" or "name value". What follows a #
// at the beginning of a line or behind white space is a comment. The same option may come several times. The translation
// follows coturn 4.6.1 and tells, for every option, whether it was taken over, has no counterpart, or is not needed here.
package coturnconf

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const (
	maxLines = 100_000
	maxLine  = 64 << 10 // bytes
)

// Option is one line of the file.
type Option struct {
	Line  int
	Name  string // without leading dashes, in lower case
	Value string // "" if none
}

// Parse reads the options of a file in their order. Errors name the line.
func Parse(r io.Reader) ([]Option, error) {
	var out []Option
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for sc.Scan() {
		n++
		if n > maxLines {
			return nil, fmt.Errorf("coturnconf: more than %d lines", maxLines)
		}
		if o, ok := parseLine(sc.Text()); ok {
			o.Line = n
			out = append(out, o)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("coturnconf: line %d: %w", n+1, err)
	}
	return out, nil
}

func parseLine(line string) (Option, bool) {
	line = strings.TrimSpace(line)
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		if j := strings.Index(line[i:], "#"); j >= 0 && strings.TrimSpace(line[i:i+j]) == "" {
			line = line[:i] // "name   # comment"
		}
	}
	if line == "" || line[0] == '#' {
		return Option{}, false
	}
	name, value := line, ""
	if i := strings.IndexAny(line, "= \t"); i >= 0 {
		name, value = line[:i], strings.TrimLeft(line[i:], "= \t")
	}
	name = strings.ToLower(strings.TrimLeft(name, "-"))
	if i := strings.Index(value, " #"); i >= 0 {
		value = value[:i]
	}
	value = strings.Trim(strings.TrimSpace(value), `"`)
	return Option{Name: name, Value: value}, name != ""
}
