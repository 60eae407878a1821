// Package card is the network card: the page that tells people what to type into Jami to join this network, shows whether each of its
// servers works, and searches names.
//
// It knows none of the servers. Whoever runs them gives it a [Network]. The page works without scripts; with them it has copy buttons
// and refreshes the state of the servers.
package card

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
)

// Field is one setting of Jami: where it stands and what to type.
type Field struct {
	Name  string `json:"name"`           // as Jami's settings page labels it
	Value string `json:"value"`          // what to type; for a switch "on" or "off"
	Note  string `json:"note,omitempty"` // why, or what else would do
	Copy  bool   `json:"-"`              // worth a copy button
}

// Section is a group of settings under one heading of Jami's advanced account settings.
type Section struct {
	Title  string  `json:"title"`
	Fields []Field `json:"fields"`
}

// Role is one server of the network and how it fares.
type Role struct {
	Name    string `json:"name"`            // what people call it
	Address string `json:"address"`         // where it is reached
	Err     string `json:"error,omitempty"` // what does not work; empty while all is well
}

// Network is what the card shows. Its methods must be safe for concurrent use and honour their contexts.
type Network interface {
	// Host returns the address of this machine that others use now; it may change while running.
	Host() string
	// Sections lists the settings for devices that reach the network at Host.
	Sections() []Section
	// Roles reports how each server fares now.
	Roles(ctx context.Context) []Role
	// LookupName returns the account id that registered a name, or ErrNoSuchName.
	LookupName(ctx context.Context, name string) (account string, err error)
}

// ErrNoSuchName is returned by [Network.LookupName] for a name that nobody has.
var ErrNoSuchName = errors.New("card: nobody has this name")

// Server serves the card.
type Server struct {
	ln  net.Listener
	srv *http.Server
	net Network
	log *slog.Logger
}

// New listens at addr, host:port. It starts nothing; a taken port is an error.
func New(addr string, network Network, log *slog.Logger) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("card: %w", err)
	}
	s := &Server{ln: ln, net: network, log: log}
	s.srv = httpapi.NewServer(s.handler(), httpapi.Limits{Body: 1 << 10, Write: 15 * time.Second}, log)
	return s, nil
}

// Port returns the port listened on.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// URL returns the address of the page for other machines.
func (s *Server) URL() string {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(s.net.Host(), fmt.Sprint(s.Port())), Path: "/"}
	return u.String()
}

// Run serves until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	return httpapi.Serve(ctx, s.srv, 2*time.Second, s.ln)
}
