// Package logging builds the slog loggers of all servers and names their attributes.
//
// Messages are constants in lower case; facts are attributes under the keys below. Addresses of clients go through [Remote] and are
// shortened to their network unless the operator asks for them in full. Nothing secret is ever an attribute.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"

	"github.com/jirani/jirani/internal/config"
	"golang.org/x/term"
)

// Attribute keys. A fact that has a key here is never logged under another.
const (
	KeyErr      = "err"
	KeyRemote   = "remote"
	KeyListen   = "listen"
	KeyRole     = "role"
	KeyNodeID   = "node_id"
	KeyInfoHash = "infohash"
	KeyDuration = "duration"
	KeyCount    = "count"
	KeyPath     = "path"
	KeyReason   = "reason"
	KeyState    = "state"
	KeySize     = "size"
	KeyName     = "name"
	KeyURL      = "url"
)

// Config is the log section of every server's file.
type Config struct {
	Level     string `yaml:"level"`     // debug, info, warn or error; default info; SIGHUP reads it again
	Format    string `yaml:"format"`    // auto, text or json; default auto: text on a terminal, json otherwise
	Addresses string `yaml:"addresses"` // redacted or full; default redacted: clients' addresses are shortened to their network
}

// Default returns the configuration used when nothing is said.
func Default() Config { return Config{Level: "info", Format: "auto", Addresses: "redacted"} }

// Validate reports every problem by key.
func (c Config) Validate() error {
	var p config.Problems
	if _, err := c.level(); err != nil {
		p.Add("level", "must be debug, info, warn or error")
	}
	if c.Format != "auto" && c.Format != "text" && c.Format != "json" {
		p.Add("format", "must be auto, text or json")
	}
	if c.Addresses != "redacted" && c.Addresses != "full" {
		p.Add("addresses", "must be redacted or full")
	}
	return p.Err()
}

func (c Config) level() (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(c.Level))
	return l, err
}

// Logger is a logger whose level can change while it is used.
type Logger struct {
	*slog.Logger
	level *slog.LevelVar
}

// New builds the logger that c describes, writing to w. c must be valid.
func New(c Config, w io.Writer) *Logger {
	level := new(slog.LevelVar)
	l := &Logger{level: level}
	l.SetLevel(c)
	opts := &slog.HandlerOptions{Level: level}
	if c.Addresses == "full" {
		opts.ReplaceAttr = fullAddress
	}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if c.Format == "text" || c.Format == "auto" && IsTerminal(w) {
		h = slog.NewTextHandler(w, opts)
	}
	l.Logger = slog.New(h)
	return l
}

// SetLevel applies the level of c and leaves everything else as it is. Safe for concurrent use.
func (l *Logger) SetLevel(c Config) {
	if v, err := c.level(); err == nil {
		l.level.Set(v)
	}
}

// IsTerminal reports whether w is a terminal, where a person reads.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Discard returns a logger that drops everything, for tests and nil dependencies.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// remote is a client's address. Its text form is redacted; a handler configured for full addresses replaces it.
type remote struct{ addr netip.AddrPort }

// Remote returns the attribute for a client's address. Without a port (port 0) only the address is logged.
func Remote(addr netip.AddrPort) slog.Attr { return slog.Any(KeyRemote, remote{addr}) }

// RemoteAddr is [Remote] for an address without port.
func RemoteAddr(addr netip.Addr) slog.Attr { return Remote(netip.AddrPortFrom(addr, 0)) }

// String returns the network of the address: the first two bytes of IPv4, the first four of IPv6.
func (r remote) String() string { return Redact(r.addr.Addr()) }

// MarshalText implements encoding.TextMarshaler for the JSON handler.
func (r remote) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func fullAddress(_ []string, a slog.Attr) slog.Attr {
	r, ok := a.Value.Any().(remote)
	if !ok {
		return a
	}
	if r.addr.Port() == 0 {
		return slog.String(a.Key, r.addr.Addr().String())
	}
	return slog.String(a.Key, r.addr.String())
}

// Redact shortens an address to its network: 203.0.113.9 gives "203.0.x.x", 2001:db8::1 gives "2001:db8:x". Loopback stays whole.
func Redact(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return "unknown"
	case a.IsLoopback():
		return a.WithZone("").String()
	case a.Is4():
		b := a.As4()
		return fmt.Sprintf("%d.%d.x.x", b[0], b[1])
	}
	b := a.As16()
	return fmt.Sprintf("%x:%x:x", uint16(b[0])<<8|uint16(b[1]), uint16(b[2])<<8|uint16(b[3]))
}
