package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jirani/jirani/allinone/card"
	"github.com/jirani/jirani/bootstrap"
	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/hostaddr"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/push"
	"github.com/jirani/jirani/turnserver"
)

// Server is a network that has been built: every socket is open, nothing runs yet.
type Server struct {
	lock  *durable.Lock
	group service.Group
	net   *network
	card  *card.Server // nil when turned off
	log   *slog.Logger
}

// New builds every role that cfg wants. When some cannot start, the error tells of each of them; those that could are released.
func New(ctx context.Context, cfg Config, deps service.Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.placed()
	lock, err := durable.LockDir(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		lock: lock, log: deps.Log,
		net: &network{cfg: cfg, members: make(map[RoleName]member), list: hostaddr.List},
	}
	if err := errors.Join(s.build(ctx, cfg, deps), s.buildCard(cfg, deps)); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// build constructs the roles one after the other and keeps going after a failure, so that all failures are told at once.
func (s *Server) build(ctx context.Context, cfg Config, deps service.Deps) error {
	var errs []error
	add := func(r RoleName, scheme string, port uint16, make func(service.Deps) (service.Runner, error)) {
		if !cfg.runs(r) {
			return
		}
		own := service.Deps{Log: deps.Log.With(logging.KeyRole, string(r)), Metrics: deps.Metrics, Health: new(health.Checks)}
		runner, err := make(own)
		if err != nil {
			errs = append(errs, explained(string(r), listenKeys[r], err))
			return
		}
		s.group = append(s.group, service.Member{Name: string(r), Runner: runner})
		s.net.members[r] = member{labels[r], scheme, port, own.Health}
		deps.Health.Add(string(r), func(ctx context.Context) error {
			if text := failing(own.Health.Run(ctx)); text != "" {
				return errors.New(text)
			}
			return nil
		})
	}
	add(Bootstrap, "", cfg.Bootstrap.Listen[0].Port(), func(d service.Deps) (service.Runner, error) {
		return bootstrap.New(cfg.Bootstrap, bootstrap.Deps{Log: d.Log, Metrics: d.Metrics, Health: d.Health})
	})
	add(Nameserver, "http://", portOf(cfg.Nameserver.Listen), func(d service.Deps) (service.Runner, error) {
		return nameserver.New(ctx, cfg.Nameserver, nameserver.Deps{Log: d.Log, Metrics: d.Metrics, Health: d.Health})
	})
	add(Turnserver, "", cfg.Turnserver.Listeners[0].Address.Port(), func(d service.Deps) (service.Runner, error) {
		return turnserver.New(ctx, cfg.Turnserver, turnserver.Deps{Log: d.Log, Metrics: d.Metrics, Health: d.Health})
	})
	add(Push, "http://", portOf(cfg.Push.Distributor.Listen), func(d service.Deps) (service.Runner, error) {
		own := cfg.withPushURL(s.net.Host()).Push
		return push.New(own, push.Deps{Log: d.Log, Metrics: d.Metrics, Health: d.Health})
	})
	if cfg.runs(Nameserver) {
		s.net.lookup = lookupAt(cfg.Nameserver.Listen)
	}
	return errors.Join(errs...)
}

// listenKeys name what moves a role to another port.
var listenKeys = map[RoleName]string{
	Bootstrap: "bootstrap.listen", Nameserver: "nameserver.listen", Turnserver: "turnserver.listeners",
	Push: "push.listen or push.distributor.listen",
}

// explained says which part of the network an error is of, and for a port that is taken which key moves it.
func explained(part, key string, err error) error {
	if !strings.HasPrefix(err.Error(), part+": ") {
		err = fmt.Errorf("%s: %w", part, err)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = service.Hint(err, "another program holds that port: stop it, or choose another with -set %s=… (jirani up -print-config shows the form)", key)
	}
	return err
}

func (s *Server) buildCard(cfg Config, deps service.Deps) error {
	if cfg.Card.Listen == "" {
		return nil
	}
	c, err := card.New(cfg.Card.Listen, s.net, deps.Log)
	if err != nil {
		return explained("card", "card.listen", err)
	}
	s.card = c
	s.group = append(s.group, service.Member{Name: "card", Runner: c})
	return nil
}

// release lets what was built give back its sockets: a run with a context that is already done.
func (s *Server) release() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(s.group.Run(ctx), s.lock.Unlock())
}

// Run runs all roles until ctx is done or one fails; then all end.
func (s *Server) Run(ctx context.Context) error {
	for r, address := range s.net.addresses() {
		s.log.Info("role serving", logging.KeyRole, string(r), "address", address)
	}
	return errors.Join(s.group.Run(ctx), s.lock.Unlock())
}

// Reload reloads every role.
func (s *Server) Reload() error { return s.group.Reload() }

// OpsHandlers are those of all roles.
func (s *Server) OpsHandlers() map[string]http.Handler { return s.group.OpsHandlers() }

// Announce draws the network card for a terminal, after a line for each role.
func (s *Server) Announce() []string {
	lines := []string{"", "Running here"}
	for r, address := range s.net.addresses() {
		lines = append(lines, fmt.Sprintf("  %-52s %s", labels[r], address))
	}
	lines = append(lines, "", "Join this Jami network")
	for _, section := range s.net.Sections() {
		lines = append(lines, "")
		for _, f := range section.Fields {
			lines = append(lines, fmt.Sprintf("  %-52s %s", section.Title+" › "+f.Name, f.Value))
		}
	}
	if s.card == nil {
		return append(lines, "")
	}
	lines = append(lines, "", "  "+s.card.URL(), "")
	if qr, err := card.Terminal(s.card.URL()); err == nil {
		lines = append(lines, strings.TrimRight(qr, "\n"), "")
	}
	return lines
}

// lookupAt asks the name server over its own protocol, on this machine (docs/protocols/nameserver.md §4).
func lookupAt(listen string) func(context.Context, string) (string, error) {
	host, port, _ := net.SplitHostPort(listen)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	client := &http.Client{Timeout: 5 * time.Second}
	return func(ctx context.Context, name string) (string, error) {
		u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: "/name/" + name}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return "", err
		}
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		var answer struct {
			Addr string `json:"addr"`
		}
		switch {
		case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusBadRequest:
			return "", card.ErrNoSuchName
		case res.StatusCode != http.StatusOK:
			return "", fmt.Errorf("allinone: name server answers %s", res.Status)
		}
		if err := json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&answer); err != nil {
			return "", fmt.Errorf("allinone: name server: %w", err)
		}
		return strings.TrimPrefix(answer.Addr, "0x"), nil
	}
}
