//go:build linux

package jamid

import (
	"context"
	"fmt"
)

// Results of a name's registration, as the signal nameRegistrationEnded carries them.
const (
	NameRegistered = 0
	NameInvalid    = 2
	NameTaken      = 3
	NameError      = 4
)

// Results of a lookup, as the signal registeredNameFound carries them.
const (
	LookupFound    = 0
	LookupInvalid  = 1
	LookupNotFound = 2
	LookupError    = 3
)

// RegisterName asks the name server for a name and returns its answer.
func (a *Account) RegisterName(ctx context.Context, name string) (result int, err error) {
	mark := a.d.Signals.Mark()
	ok := false
	if err := a.d.configure(ctx, "registerName", []any{&ok}, a.ID, "", name); err != nil {
		return 0, err
	}
	sig, err := a.d.Signals.Wait(ctx, mark, "nameRegistrationEnded", func(s Signal) bool { return s.Text(0) == a.ID })
	return sig.Int(1), err
}

// Found is the outcome of a lookup.
type Found struct {
	Result  int // LookupFound …
	Address string
	Name    string
}

// LookupName asks for the address of a name. server is a URL, or "" for the account's own. What the daemon learnt once
// from a host it answers by itself; another host name of the same server makes it ask again.
func (a *Account) LookupName(ctx context.Context, server, name string) (Found, error) {
	return a.lookup(ctx, "lookupName", server, name, func(f Found) bool { return f.Name == name || f.Name == "" })
}

// LookupAddress asks for the name of an account id, as LookupName does.
func (a *Account) LookupAddress(ctx context.Context, server, address string) (Found, error) {
	return a.lookup(ctx, "lookupAddress", server, address, func(f Found) bool { return f.Address == address || f.Address == "" })
}

func (a *Account) lookup(ctx context.Context, method, server, what string, fits func(Found) bool) (Found, error) {
	account := a.ID
	if server != "" {
		account = "" // with an account, the daemon takes the account's server
	}
	mark := a.d.Signals.Mark()
	ok := false
	if err := a.d.configure(ctx, method, []any{&ok}, account, server, what); err != nil {
		return Found{}, err
	}
	if !ok {
		return Found{}, fmt.Errorf("jamid: %s of %s on %s refused", method, what, a.d.Name)
	}
	found := func(s Signal) Found { return Found{Result: s.Int(1), Address: s.Text(2), Name: s.Text(3)} }
	sig, err := a.d.Signals.Wait(ctx, mark, "registeredNameFound", func(s Signal) bool {
		return s.Text(0) == account && fits(found(s))
	})
	return found(sig), err
}
