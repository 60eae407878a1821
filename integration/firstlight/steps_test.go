//go:build linux

package firstlight

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jirani/jirani/integration/jamid"
)

// fileSize is that of the file sent.
const fileSize = 5 << 20 // bytes

// both does the same for alice and bob at once.
func (e *evening) both(ctx context.Context, f func(context.Context, *person) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range []*person{e.alice, e.bob} {
		g.Go(func() error { return f(ctx, p) })
	}
	return g.Wait()
}

func (e *evening) arrive(ctx context.Context) error {
	return e.both(ctx, func(ctx context.Context, p *person) error { return p.arrive(ctx) })
}

// registration makes the accounts and sees them on the network, each with its device announced. Most of it is the making
// of keys, so what comes after them is noted apart.
func (e *evening) registration(ctx context.Context) error {
	var mu sync.Mutex
	var longest time.Duration
	err := e.both(ctx, func(ctx context.Context, p *person) (err error) {
		if p.Account, err = p.daemon.AddAccount(ctx, e.servers.settings(p.name, e.world.discovery)); err != nil {
			return err
		}
		keys := time.Now()
		if err := p.online(ctx); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		longest = max(longest, time.Since(keys))
		return nil
	})
	times.note(e.world.topology.Name, "… once there are keys", longest)
	return err
}

// clientsReady waits until the devices have made the Diffie-Hellman parameters without which they begin no TLS session: a second
// or many, by chance and load, which would otherwise be counted where the first connection is made.
func (e *evening) clientsReady(ctx context.Context) error {
	return e.both(ctx, func(ctx context.Context, p *person) error { return p.daemon.WaitLog(ctx, 0, "Saved DhParams to file") })
}

// online waits until the device is on the network and announced.
func (p *person) online(ctx context.Context) error {
	if err := p.WaitRegistered(ctx); err != nil {
		return err
	}
	return p.WaitAnnounced(ctx)
}

func (e *evening) nameRegistered(ctx context.Context) error {
	return wantResult(jamid.NameRegistered)(e.alice.RegisterName(ctx, e.alice.name))
}

func (e *evening) nameTaken(ctx context.Context) error {
	return wantResult(jamid.NameTaken)(e.bob.RegisterName(ctx, e.alice.name))
}

func nameServerAt(host string) string { return fmt.Sprintf("http://%s:%d", host, namesPort) }

func (e *evening) nameLookedUp(ctx context.Context) error { return e.lookUp(ctx, "") }

// lookUp has bob look for alice's name on a server, "" being his account's.
func (e *evening) lookUp(ctx context.Context, server string) error {
	found, err := e.bob.LookupName(ctx, server, e.alice.name)
	if err == nil && (found.Result != jamid.LookupFound || found.Address != e.alice.URI) {
		err = fmt.Errorf("lookup of %s = %+v, want address %s", e.alice.name, found, e.alice.URI)
	}
	return err
}

func (e *evening) addressLookedUp(ctx context.Context) error {
	found, err := e.bob.LookupAddress(ctx, nameServerAt(nameForAddress), e.alice.URI)
	if err == nil && (found.Result != jamid.LookupFound || found.Name != e.alice.name) {
		err = fmt.Errorf("lookup of %s = %+v, want name %s", e.alice.URI, found, e.alice.name)
	}
	return err
}

// presence lasts until each sees the other online.
func (e *evening) presence(ctx context.Context) error {
	return e.both(ctx, func(ctx context.Context, p *person) error {
		mark, other := p.daemon.Signals.Mark(), e.other(p)
		if err := p.Watch(ctx, other.URI); err != nil {
			return err
		}
		return p.WaitOnline(ctx, mark, other.URI)
	})
}

func (e *evening) other(p *person) *person {
	if p == e.alice {
		return e.bob
	}
	return e.alice
}

func (e *evening) contactRequest(ctx context.Context) (err error) {
	if e.conversation, err = e.alice.Invite(ctx, e.bob.URI); err != nil {
		return err
	}
	return e.bob.WaitRequest(ctx, e.alice.URI)
}

// acceptance lasts until bob has cloned the conversation and alice has seen him join.
func (e *evening) acceptance(ctx context.Context) error {
	mark := e.alice.daemon.Signals.Mark()
	if err := e.bob.Accept(ctx, e.alice.URI, e.conversation); err != nil {
		return err
	}
	return e.alice.WaitJoined(ctx, mark, e.conversation, e.bob.URI)
}

func (e *evening) message(ctx context.Context, from, to *person, text string) error {
	mark := to.daemon.Signals.Mark()
	if err := from.Send(ctx, e.conversation, text); err != nil {
		return err
	}
	return to.WaitMessage(ctx, mark, e.conversation, text)
}

func (e *evening) file(ctx context.Context) error {
	content := make([]byte, fileSize)
	rand.Read(content)
	sent, got := filepath.Join(e.alice.home, "photo"), filepath.Join(e.bob.home, "photo")
	if err := os.WriteFile(sent, content, 0o600); err != nil {
		return err
	}
	mark := e.bob.daemon.Signals.Mark()
	if err := e.alice.SendFile(ctx, e.conversation, sent, "photo"); err != nil {
		return err
	}
	if err := e.bob.ReceiveFile(ctx, mark, e.conversation, "photo", got); err != nil {
		return err
	}
	received, err := os.ReadFile(got)
	if err == nil && !bytes.Equal(received, content) {
		err = errors.New("file received differs from file sent")
	}
	return err
}

func (e *evening) call(ctx context.Context) error {
	mark := e.bob.daemon.Signals.Mark()
	out, err := e.alice.Call(ctx, e.bob.URI)
	if err != nil {
		return err
	}
	in, err := e.bob.Answer(ctx, mark, e.alice.URI)
	if err != nil {
		return err
	}
	if err := errors.Join(out.WaitMedia(ctx), in.WaitMedia(ctx)); err != nil {
		return err
	}
	if err := e.both(ctx, hears); err != nil {
		return err
	}
	if err := out.HangUp(ctx); err != nil {
		return err
	}
	if err := in.WaitOver(ctx); err != nil {
		return err
	}
	return e.bob.WaitCallNoted(ctx, mark, e.conversation)
}

// soundPackets are a second of sound at one packet each 20 ms: more than the DHT and the checks of ICE amount to.
const soundPackets = 50

// hears waits until the person's device was given a second of sound.
func hears(ctx context.Context, p *person) error {
	before, err := p.machine.Datagrams()
	if err != nil {
		return err
	}
	return eventually(ctx, func(context.Context) error {
		now, err := p.machine.Datagrams()
		if err == nil && now < before+soundPackets {
			err = fmt.Errorf("%s heard %d packets of sound, want %d", p.name, now-before, soundPackets)
		}
		return err
	})
}

// restart kills every server and starts it again on what it left on disk.
func (e *evening) restart(ctx context.Context) (err error) {
	for _, p := range []*person{e.alice, e.bob} {
		if p.mark, err = p.daemon.LogMark(); err != nil {
			return err
		}
	}
	e.servers.kill()
	return e.servers.start(ctx)
}

// connectionLost is what a daemon logs when it finds that a connection is no more. A reset it finds at its next write, at the
// latest a sign of life after 20–25 s.
const connectionLost = "TLS connection was non-properly terminated"

// lossNoticed waits until both devices know that their relayed connection is gone. One that is told of a message before,
// asks for it through the dead connection, and has been seen never to ask again.
func (e *evening) lossNoticed(ctx context.Context) error {
	if !e.world.relayed {
		return nil
	}
	return e.both(ctx, func(ctx context.Context, p *person) error { return p.daemon.WaitLog(ctx, p.mark, connectionLost) })
}

func (e *evening) registrationAgain(ctx context.Context) error {
	return e.both(ctx, func(ctx context.Context, p *person) error { return p.online(ctx) })
}

// nameKept asks the restarted name server.
func (e *evening) nameKept(ctx context.Context) error {
	return e.lookUp(ctx, nameServerAt(nameAfterKill))
}

// foundAgain lasts until a stranger finds both devices: until they have given the DHT their announcements again.
func (e *evening) foundAgain(ctx context.Context) error {
	return e.both(ctx, func(ctx context.Context, p *person) error {
		return eventually(ctx, func(ctx context.Context) error { return e.servers.holdsValue(ctx, p.URI) })
	})
}

// away takes bob off, as an empty battery does, and has alice write to him once her device has lost his.
func (e *evening) away(ctx context.Context) error {
	mark, err := e.alice.daemon.LogMark()
	if err != nil {
		return err
	}
	e.bob.leave()
	if err := e.alice.daemon.WaitLog(ctx, mark, connectionLost); err != nil {
		return err
	}
	return e.alice.Send(ctx, e.conversation, "for when you are back")
}

// back brings bob home, where the message must come to him.
func (e *evening) back(ctx context.Context) (err error) {
	if err := e.bob.arrive(ctx); err != nil {
		return err
	}
	if e.bob.Account, err = e.bob.daemon.Account(ctx); err != nil {
		return err
	}
	if err := e.bob.Watch(ctx, e.alice.URI); err != nil {
		return err
	}
	return e.bob.WaitMessage(ctx, 0, e.conversation, "for when you are back")
}

// wantResult makes an error of any result but want.
func wantResult(want int) func(int, error) error {
	return func(got int, err error) error {
		if err == nil && got != want {
			err = fmt.Errorf("result %d, want %d", got, want)
		}
		return err
	}
}
