//go:build linux

package jamid

import (
	"context"
	"fmt"
	"maps"
	"strings"
)

// Settings are what a person types into the client's advanced settings.
type Settings struct {
	DisplayName string
	Bootstrap   string // host:port, several with semicolons; "" means none, only the LAN
	NameServer  string // URL; "" means one that refuses
	TURN        TURN   // the zero TURN means no relay
	Proxy       string // host:port of a DHT proxy; "" means none
	Discovery   bool   // look for other devices on the LAN
	// Extra keys of the account's details, which go over the rest.
	Extra map[string]string
}

// TURN is the relay of an account.
type TURN struct{ Server, User, Password, Realm string }

// nowhere is an address at which nothing listens. An empty setting would mean the public servers.
const nowhere = "127.0.0.1:9"

// details are the settings as the daemon calls them.
func (s Settings) details() map[string]string {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	d := map[string]string{
		"Account.type":             "RING",
		"Account.alias":            s.DisplayName,
		"Account.displayName":      s.DisplayName,
		"Account.archivePassword":  "",
		"Account.hostname":         or(s.Bootstrap, nowhere),
		"RingNS.uri":               or(s.NameServer, "http://"+nowhere),
		"TURN.enable":              onOff(s.TURN.Server != ""),
		"TURN.server":              or(s.TURN.Server, nowhere),
		"TURN.username":            s.TURN.User,
		"TURN.password":            s.TURN.Password,
		"TURN.realm":               s.TURN.Realm,
		"Account.proxyEnabled":     onOff(s.Proxy != ""),
		"Account.proxyServer":      or(s.Proxy, nowhere),
		"Account.peerDiscovery":    onOff(s.Discovery),
		"Account.accountDiscovery": onOff(s.Discovery),
		"Account.accountPublish":   onOff(s.Discovery),
		"Account.upnpEnabled":      "false",
		"Account.videoEnabled":     "false",
		"Account.ringtoneEnabled":  "false", // would play as fast as the device without sound takes it: all of a processor
	}
	maps.Copy(d, s.Extra)
	return d
}

func onOff(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// Account is one account of a daemon.
type Account struct {
	d   *Daemon
	ID  string // the daemon's own name for it
	URI string // account id: 40 hex digits
}

// AddAccount makes an account and waits until it has its keys. It is on its way to the network then.
func (d *Daemon) AddAccount(ctx context.Context, s Settings) (*Account, error) {
	details := map[string]string{}
	if err := d.configure(ctx, "getAccountTemplate", []any{&details}, "RING"); err != nil {
		return nil, err
	}
	maps.Copy(details, s.details())
	a := &Account{d: d}
	if err := d.configure(ctx, "addAccount", []any{&a.ID}, details); err != nil {
		return nil, err
	}
	return a, a.waitKeys(ctx)
}

// Account returns the only account of a daemon that was started on a home with one.
func (d *Daemon) Account(ctx context.Context) (*Account, error) {
	var ids []string
	err := d.until(ctx, "account", func() (bool, error) {
		err := d.configure(ctx, "getAccountList", []any{&ids})
		return len(ids) > 0, err
	})
	if err != nil {
		return nil, err
	}
	a := &Account{d: d, ID: ids[0]}
	return a, a.waitKeys(ctx)
}

func (a *Account) waitKeys(ctx context.Context) error {
	return a.d.until(ctx, "keys of the account", func() (bool, error) {
		details, err := a.Details(ctx)
		user := details["Account.username"]
		for _, scheme := range []string{"ring:", "jami:"} {
			user = strings.TrimPrefix(user, scheme)
		}
		if len(user) == 40 {
			a.URI = user
		}
		return a.URI != "", err
	})
}

// Details are the account's settings.
func (a *Account) Details(ctx context.Context) (map[string]string, error) {
	m := map[string]string{}
	return m, a.d.configure(ctx, "getAccountDetails", []any{&m}, a.ID)
}

// Volatile are the account's states of the moment.
func (a *Account) Volatile(ctx context.Context) (map[string]string, error) {
	m := map[string]string{}
	return m, a.d.configure(ctx, "getVolatileAccountDetails", []any{&m}, a.ID)
}

// Change sets some of the account's details; the daemon then registers anew.
func (a *Account) Change(ctx context.Context, change map[string]string) error {
	details, err := a.Details(ctx)
	if err != nil {
		return err
	}
	maps.Copy(details, change)
	return a.d.configure(ctx, "setAccountDetails", nil, a.ID, details)
}

// SetRegistered takes the account off the network or puts it back.
func (a *Account) SetRegistered(ctx context.Context, on bool) error {
	return a.d.configure(ctx, "sendRegister", nil, a.ID, on)
}

// WaitRegistered waits until the account is connected to the DHT.
func (a *Account) WaitRegistered(ctx context.Context) error {
	return a.waitVolatile(ctx, "Account.registrationStatus", "REGISTERED")
}

// WaitAnnounced waits until the device's announcement is stored in the DHT, so that others can find it.
func (a *Account) WaitAnnounced(ctx context.Context) error {
	return a.waitVolatile(ctx, "Account.deviceAnnounced", "true")
}

// waitVolatile waits until a state of the account has a value.
func (a *Account) waitVolatile(ctx context.Context, key, want string) error {
	last := ""
	err := a.d.until(ctx, key+" "+want, func() (bool, error) {
		states, err := a.Volatile(ctx)
		if err == nil {
			last = states[key]
		}
		return last == want, err
	})
	if err != nil {
		return fmt.Errorf("%w (last %q)", err, last)
	}
	return nil
}

// NearbyPeers are the accounts seen on the LAN: account id → display name.
func (a *Account) NearbyPeers(ctx context.Context) (map[string]string, error) {
	m := map[string]string{}
	return m, a.d.configure(ctx, "getNearbyPeers", []any{&m}, a.ID)
}

// Watch asks for the presence of the account uri, as every face of Jami does for each contact when it starts. The daemon
// connects to a watched contact's devices when it sees them come.
func (a *Account) Watch(ctx context.Context, uri string) error {
	if err := a.d.call(ctx, "PresenceManager", "subscribeBuddy", nil, a.ID, uri, true); err != nil {
		return fmt.Errorf("jamid: subscribeBuddy on %s: %w", a.d.Name, err)
	}
	return nil
}

// WaitOnline waits until the watched account uri was seen online after mark.
func (a *Account) WaitOnline(ctx context.Context, mark Mark, uri string) error {
	_, err := a.d.Signals.Wait(ctx, mark, "newBuddyNotification", func(s Signal) bool {
		return s.Text(0) == a.ID && s.Text(1) == uri && len(s.Args) > 2 && s.Args[2] == true
	})
	return err
}
