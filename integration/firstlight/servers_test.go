//go:build linux

package firstlight

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/jamid"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/natlab"
)

// Ports of the servers, on the machine "server".
const (
	dhtPort   = 4222
	namesPort = 8081
	turnPort  = 3478
)

// relayUser is the user, password and realm that Jami's clients carry by default.
const relayUser = "ring"

// startPatience bounds a server's start.
const startPatience = 20 * time.Second

// server is a program to run.
type server struct {
	name  string
	path  string
	args  []string
	ready check
}

// check is asked until it says nil.
type check func(context.Context) error

// all says what the first says that is not content.
func all(checks ...check) check {
	return func(ctx context.Context) error {
		for _, c := range checks {
			if err := c(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// servers are the programs on one machine.
type servers struct {
	t        *testing.T
	lab      *natlab.Lab
	machine  *natlab.Machine
	programs []server
	inside   *nameStub // the baseline's name server, nil otherwise
	running  []*exec.Cmd
}

// newServers prepares the servers that the flag names; start runs them. lan has the DHT node announce itself.
func newServers(t *testing.T, lab *natlab.Lab, lan bool) *servers {
	t.Helper()
	s := &servers{t: t, lab: lab, machine: lab.Host("server")}
	whose, err := parseChoice(*serversFlag)
	if err != nil {
		t.Fatalf("-servers: %v", err)
	}
	if len(whose) == 0 {
		s.up()
	} else {
		s.dht(whose["dht"], lan)
		s.names(whose["names"])
		s.turn(whose["turn"])
	}
	t.Cleanup(s.kill)
	return s
}

// dir is a place for a program's files, which outlives the program.
func (s *servers) dir(name string) string {
	dir := filepath.Join(s.lab.Dir, "server", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// start runs every server and waits until all answer.
func (s *servers) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, p := range s.programs {
		if err := s.run(p); err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
	}
	for _, p := range s.programs {
		if err := eventually(ctx, p.ready); err != nil {
			return fmt.Errorf("%s does not answer: %w", p.name, err)
		}
	}
	if s.inside == nil {
		return nil
	}
	return s.inside.start(s.machine, netip.AddrPortFrom(s.machine.Addr, namesPort))
}

func (s *servers) run(p server) error {
	log, err := s.lab.LogFile("server", p.name)
	if err != nil {
		return err
	}
	defer log.Close() // the program keeps its own
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir(p.name), log, log
	if err := s.machine.Start(cmd); err != nil {
		return err
	}
	s.running = append(s.running, cmd)
	return nil
}

// kill ends every server as a power cut does: SIGKILL.
func (s *servers) kill() {
	for _, cmd := range s.running {
		_ = cmd.Process.Kill() // already gone is as good
		_ = cmd.Wait()
	}
	s.running = nil
	if s.inside != nil {
		s.inside.stop()
	}
}

// settings are what both accounts are given.
func (s *servers) settings(name string, lan bool) jamid.Settings {
	settings := jamid.Settings{
		DisplayName: name,
		Bootstrap:   s.at(dhtPort),
		NameServer:  "http://" + s.at(namesPort),
		TURN:        jamid.TURN{Server: s.at(turnPort), User: relayUser, Password: relayUser, Realm: relayUser},
	}
	if lan {
		settings.Bootstrap, settings.Discovery = "", true
	}
	return settings
}

// at is port of the servers' machine as host:port.
func (s *servers) at(port uint16) string { return netip.AddrPortFrom(s.machine.Addr, port).String() }

// tcpOpen tells when a port of the server takes connections.
func (s *servers) tcpOpen(port uint16) check {
	return func(ctx context.Context) error {
		conn, err := s.machine.DialContext(ctx, "tcp", s.at(port))
		if err == nil {
			conn.Close()
		}
		return err
	}
}

// udpOpen tells when a program has a UDP port of the server.
func (s *servers) udpOpen(port uint16) check {
	return func(context.Context) error {
		open, err := s.machine.ListensUDP(port)
		if err == nil && !open {
			err = fmt.Errorf("nobody on UDP port %d", port)
		}
		return err
	}
}

// holdsValue tells whether a new node that enters the DHT by the server's finds something at key.
func (s *servers) holdsValue(ctx context.Context, key string) error {
	var found bytes.Buffer
	cmd := exec.CommandContext(ctx, program.Build(s.t, "jirani"), "dht", "get", "-b", s.at(dhtPort), "-timeout", "5s", key)
	cmd.Stdout = &found
	if err := s.machine.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil || found.Len() == 0 {
		return fmt.Errorf("DHT has nothing at %s: %v", key, err)
	}
	return nil
}

// eventually asks until the answer is nil or ctx ends, and returns the last answer.
func eventually(ctx context.Context, ask check) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
