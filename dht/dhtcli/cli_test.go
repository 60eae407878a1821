package dhtcli

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht/dhtcrypto"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/internal/udpio"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"jirani-dht": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts against a node of network 5 at $NODE. It publishes the certificate of $RECIPIENT; the
// files $WORK/alice.* are that identity, and $WORK/large is more than can be stored.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			leaf, _, err := dhtcrypto.Generate("alice", 2048, time.Now())
			if err != nil {
				return err
			}
			if err := leaf.Save(filepath.Join(env.WorkDir, "alice"), nil); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(env.WorkDir, "large"), make([]byte, 70000), 0o600); err != nil {
				return err
			}
			addr, stop, err := startNode(&leaf)
			env.Defer(stop)
			env.Setenv("NODE", addr.String())
			env.Setenv("RECIPIENT", leaf.Key.Public().ID().String())
			env.Setenv("RECIPIENT_LONG", leaf.Key.Public().LongID().String())
			return err
		},
	})
}

// startNode runs a network of two: the second lets the first publish.
func startNode(id *dhtcrypto.Identity) (addr netip.AddrPort, stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	stop = func() { cancel(); wg.Wait() }
	for i := range 2 {
		c, err := udpio.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), udpio.Config{})
		if err != nil {
			return addr, stop, err
		}
		cfg := dhtnode.Config{Network: 5}
		if i == 0 {
			addr, cfg.Identity = c.LocalAddr(), id
		} else {
			cfg.Bootstrap = []string{addr.String()}
		}
		n, err := dhtnode.New(cfg, dhtnode.Deps{Conns: []dhtnode.Conn{c}})
		if err != nil {
			return addr, stop, errors.Join(err, c.Close())
		}
		wg.Go(func() {
			defer c.Close()
			n.Run(ctx)
		})
	}
	return addr, stop, nil
}
