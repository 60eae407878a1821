//go:build linux

package firstlight

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/jamid"
	"github.com/jirani/jirani/internal/natlab"
)

// Bounds of the steps. Nothing takes nearly as long; a step that does is broken.
const (
	startBound    = 30 * time.Second
	registerBound = 4 * time.Minute // RSA keys of 4096 bits: by chance, and by what else the machine does
	nameBound     = 15 * time.Second
	peerBound     = 90 * time.Second
)

// evening is one run of the scenario: two people, their devices, their servers.
type evening struct {
	t       *testing.T
	world   world
	lab     *natlab.Lab
	servers *servers

	alice, bob   *person
	conversation string
}

// person is somebody with one device.
type person struct {
	*jamid.Account
	machine *natlab.Machine
	home    string
	daemon  *jamid.Daemon
	name    string // registered with the name server
	mark    int64  // of the daemon's log, before the servers were killed
}

// Names of the servers' machine. The client keeps what it learnt by host name, so each question that is to reach the
// name server takes another.
const (
	nameForAddress = "address.example"
	nameAfterKill  = "again.example"
)

func newEvening(t *testing.T, w world) *evening {
	hosts := w.topology.Hosts
	for i := range hosts {
		hosts[i].Names = map[string]netip.Addr{nameForAddress: hosts[0].Addr, nameAfterKill: hosts[0].Addr}
	}
	lab := natlab.New(t, w.topology)
	e := &evening{t: t, world: w, lab: lab, servers: newServers(t, lab, w.discovery)}
	for _, p := range []struct {
		name string
		who  **person
	}{{"alice", &e.alice}, {"bob", &e.bob}} {
		*p.who = &person{machine: lab.Host(p.name), home: filepath.Join(lab.Dir, p.name, "home"), name: p.name}
		t.Cleanup(func() { (*p.who).leave() })
	}
	return e
}

// leave ends the person's device at once.
func (p *person) leave() {
	if p.daemon != nil {
		p.daemon.Kill()
		p.daemon = nil
	}
}

// died says how the person's device ended by itself, if it did.
func (p *person) died() error {
	if p.daemon == nil {
		return nil
	}
	return p.daemon.Died()
}

// arrive starts the person's device.
func (p *person) arrive(ctx context.Context) (err error) {
	p.daemon, err = jamid.Start(ctx, jamid.Config{Machine: p.machine, Dir: p.home})
	return err
}

// step is one thing that people do, or that befalls them. f returns once it has come to its end.
type step struct {
	name  string
	bound time.Duration
	f     func(context.Context) error
}

func (e *evening) steps() []step {
	message := func(from, to *person, text string) func(context.Context) error {
		return func(ctx context.Context) error { return e.message(ctx, from, to, text) }
	}
	return []step{
		{"servers up", startBound, e.servers.start},
		{"devices up", startBound, e.arrive},
		{"registration", registerBound, e.registration},
		{"clients ready", registerBound, e.clientsReady},
		{"name registered", nameBound, e.nameRegistered},
		{"name taken", nameBound, e.nameTaken},
		{"name looked up", nameBound, e.nameLookedUp},
		{"address looked up", nameBound, e.addressLookedUp},
		{"presence", peerBound, e.presence},
		{"contact request", peerBound, e.contactRequest},
		{"acceptance to swarm", peerBound, e.acceptance},
		{"message", peerBound, message(e.alice, e.bob, "good evening")},
		{"message back", peerBound, message(e.bob, e.alice, "good evening to you")},
		{"5 MiB file", peerBound, e.file},
		{"audio call", peerBound, e.call},
		{"servers killed", startBound, e.restart},
		{"loss noticed", peerBound, e.lossNoticed},
		{"registration again", registerBound, e.registrationAgain},
		{"name kept", nameBound, e.nameKept},
		{"devices found again", peerBound, e.foundAgain},
		{"message after", peerBound, message(e.bob, e.alice, "still there?")},
		{"device away", peerBound, e.away},
		{"message waited", peerBound, e.back},
	}
}

// run goes through the steps; the first that fails ends the evening. A client that crashed does so without failing the test if
// forgiving, and run returns the crash.
func (e *evening) run(forgiving bool) *jamid.Died {
	for _, s := range e.steps() {
		var crash *jamid.Died
		passed := e.t.Run(s.name, func(t *testing.T) {
			err := e.take(t.Context(), s)
			if forgiving && errors.As(err, &crash) && crash.Crashed() {
				notes.add(t, "%v", crash)
				return
			}
			crash = nil
			if err != nil {
				t.Fatal(err)
			}
		})
		if !passed {
			e.t.FailNow()
		}
		if crash != nil {
			return crash
		}
	}
	e.noStrays()
	return nil
}

// take takes one step and notes how long it took. Its error tells of a client that ended meanwhile, whoever was waited for.
func (e *evening) take(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	begin := time.Now()
	if err := s.f(ctx); err != nil {
		return errors.Join(err, e.alice.died(), e.bob.died())
	}
	times.note(e.world.topology.Name, s.name, time.Since(begin))
	return nil
}

// noStrays fails the test if anything tried to leave the lab.
func (e *evening) noStrays() {
	strays, err := e.lab.Strays()
	if err != nil {
		e.t.Error(err)
	}
	for _, s := range strays {
		e.t.Errorf("tried to leave: %v", s)
	}
}
