package credential

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxUsers bounds a users file; more belong into a table.
const maxUsers = 100_000

// Users maps the names of one realm to their keys.
type Users map[string]Key

// ParseUsers reads a users file: a line per user, "name:password" or "name:0x" and 32 hexadecimal digits of a ready-made key (as coturn's
// user lines have them). Empty lines and lines that begin with # are skipped. Errors name the line and never the password.
func ParseUsers(r io.Reader, realm string) (Users, error) {
	users := make(Users)
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimRight(sc.Text(), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, secret, ok := strings.Cut(line, ":")
		if !ok || secret == "" {
			return nil, fmt.Errorf("credential: line %d: want name:password", n)
		}
		if err := ValidUser(name); err != nil {
			return nil, fmt.Errorf("credential: line %d: %w", n, err)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("credential: line %d: user %q appears twice", n, name)
		}
		if len(users) == maxUsers {
			return nil, fmt.Errorf("credential: more than %d users; use a database", maxUsers)
		}
		key := LongTermKey(name, realm, secret)
		if digits, isKey := strings.CutPrefix(secret, "0x"); isKey {
			if ready, err := ParseKey(digits); err == nil {
				key = ready
			}
		}
		users[name] = key
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("credential: read users: %w", err)
	}
	return users, nil
}
