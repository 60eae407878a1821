package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with one key of a configuration.
type Problem struct {
	Key  string // dotted path as in the file: limits.per_source
	Line int    // line in the file, from 1; 0 when the key is not in a file
	Text string // what is wrong, and what would be right
}

func (p Problem) String() string {
	if p.Key == "" {
		return p.Text
	}
	return p.Key + ": " + p.Text
}

// Problems collects everything that is wrong with a configuration, so that an operator mends it in one go. The zero value is ready to
// use. It is an error when it holds at least one problem; return it with [Problems.Err].
type Problems struct {
	list []Problem
}

// Add records that key is wrong. The text says what is expected, lower case, without a full stop.
func (p *Problems) Add(key, format string, args ...any) {
	p.list = append(p.list, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

// Merge records the problems of err, a nested section's Validate result, with their keys under prefix. A nil err adds nothing; an
// error of another type becomes one problem of the section itself.
func (p *Problems) Merge(prefix string, err error) {
	if err == nil {
		return
	}
	nested, ok := err.(*Problems)
	if !ok {
		p.Add(prefix, "%v", err)
		return
	}
	for _, q := range nested.list {
		q.Key = join(prefix, q.Key)
		p.list = append(p.list, q)
	}
}

// All returns the problems in the order they were found. The slice belongs to p.
func (p *Problems) All() []Problem { return p.list }

// Err returns p, or nil if it holds no problem.
func (p *Problems) Err() error {
	if len(p.list) == 0 {
		return nil
	}
	return p
}

func (p *Problems) Error() string {
	lines := make([]string, len(p.list))
	for i, q := range p.list {
		lines[i] = q.String()
	}
	return strings.Join(lines, "; ")
}

func join(prefix, key string) string {
	switch {
	case prefix == "":
		return key
	case key == "":
		return prefix
	}
	return prefix + "." + key
}
