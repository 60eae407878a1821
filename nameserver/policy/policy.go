package policy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jirani/jirani/nameserver/nameproto"
)

var (
	// ErrRefused says that this account may not register this name here, now
	// or later. A server answers 403.
	ErrRefused = errors.New("policy: refused")
	// ErrInvite says that the registration needs an invite it does not carry.
	// A server answers 403.
	ErrInvite = fmt.Errorf("%w: an invite is needed", ErrRefused)
)

// A Policy is a checked [Config] with the files it names. It is immutable and
// safe for concurrent use; a reload makes a new one.
type Policy struct {
	// Names is the rule for names.
	Names Names
	// Mode is who may register.
	Mode Mode

	confusables bool
	reserved    map[string]bool // by skeleton
	allowed     map[nameproto.Address]string
}

// New checks cfg and reads the allow-list.
func New(cfg Config) (*Policy, error) {
	var problems []error
	cfg.Check(func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("policy: "+key+": "+format, args...))
	})
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	p := &Policy{Names: cfg.names(), Mode: cfg.Mode, confusables: cfg.Confusables, reserved: make(map[string]bool)}
	for _, name := range cfg.Reserved {
		key, err := p.Names.Key(name)
		if err != nil {
			return nil, err
		}
		p.reserved[p.likeness(key)] = true
	}
	if cfg.Mode == ModeAllowList {
		if err := p.readAllowList(cfg.AllowList); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Skeleton returns what the store keeps unique besides key: its [Skeleton], or
// nothing if lookalikes are allowed.
func (p *Policy) Skeleton(key string) string {
	if !p.confusables {
		return ""
	}
	return Skeleton(key)
}

// likeness is what reserved names are compared by.
func (p *Policy) likeness(key string) string {
	if !p.confusables {
		return key
	}
	return Skeleton(key)
}

// Rules is the text of the rules in force, whose hash the ledger records. It
// tells nothing of the members of an allow-list or of reserved names.
func (p *Policy) Rules() string {
	return fmt.Sprintf("jirani name rules 1\nregistration %s\nunicode %t\nlength %d-%d\nconfusables %t\n",
		p.Mode, p.Names.Unicode, p.Names.MinLength, p.Names.MaxLength, p.confusables)
}

// Allow decides whether addr may register the name with the given lookup key.
// invited says whether the request carried an invite; whether that is good is
// for the store to decide, in the transaction that uses it up. Errors wrap
// [ErrRefused].
func (p *Policy) Allow(key string, addr nameproto.Address, invited bool) error {
	switch p.Mode {
	case ModeClosed:
		return fmt.Errorf("%w: this server takes no registrations", ErrRefused)
	case ModeInvite:
		if !invited {
			return ErrInvite
		}
	case ModeAllowList:
		only, ok := p.allowed[addr]
		if !ok {
			return fmt.Errorf("%w: the account is not on the list", ErrRefused)
		}
		if only != "" {
			if only != key {
				return fmt.Errorf("%w: the account may register another name only", ErrRefused)
			}
			return nil // the list may give away reserved names
		}
	}
	if p.reserved[p.likeness(key)] {
		return fmt.Errorf("%w: the name is reserved", ErrRefused)
	}
	return nil
}

const (
	maxAllowList = 1_000_000 // accounts, about 100 MB
	maxAllowLine = 1 << 10   // bytes
)

func (p *Policy) readAllowList(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("policy: allow-list: %w", err)
	}
	defer f.Close()
	if p.allowed, err = p.parseAllowList(f); err != nil {
		return fmt.Errorf("policy: allow-list %s: %w", file, err)
	}
	return nil
}

func (p *Policy) parseAllowList(r io.Reader) (map[nameproto.Address]string, error) {
	allowed := make(map[nameproto.Address]string)
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxAllowLine)
	line := 0
	for s.Scan() {
		line++
		text, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(allowed) >= maxAllowList {
			return nil, fmt.Errorf("line %d: over %d accounts", line, maxAllowList)
		}
		addr, name, err := p.parseAllowed(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		allowed[addr] = name
	}
	return allowed, s.Err()
}

func (p *Policy) parseAllowed(fields []string) (addr nameproto.Address, key string, err error) {
	if addr, err = nameproto.ParseAddress(fields[0]); err != nil || len(fields) == 1 {
		return addr, "", err
	}
	if len(fields) > 2 {
		return addr, "", errors.New("want an account id and at most one name")
	}
	key, err = p.Names.Key(fields[1])
	return addr, key, err
}
