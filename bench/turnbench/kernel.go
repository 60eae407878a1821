package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// compareKernel measures the data path in the kernel, over cables between network namespaces instead of loopback, and prints a table.
//
// What the kernel relays is charged to nobody's process: it is done while the generator sends, on the generator's processor. So its cost is
// taken from the clock: the time for a packet through the relay less the time for one over a cable without a relay, by the same generator,
// which never waits; and the server's own time is added. A relay over cables has one cable more to cross than none, and that is in the
// number too. coturn's cost is that of its process alone: what the kernel does for it while the generator sends is left out.
func (g generator) compareKernel(ours, theirs string, rounds int) error {
	through, direct, err := wires()
	if err != nil {
		return err
	}
	fmt.Println("| what, single packets | coturn | ours, user space | ours, kernel | of that in the program | ratio, kernel to coturn |\n|---|---|---|---|---|---|")
	for _, dir := range []string{"up", "down"} {
		for _, c := range []struct{ size, clients int }{{172, 1}, {1200, 1}, {172, 50}, {1200, 50}} {
			var cost [4][]float64
			for range rounds {
				v, err := g.kernelRound(through, direct, ours, theirs, dir == "up", c.size, c.clients)
				if err != nil {
					return fmt.Errorf("%s %d B, %d clients: %w", dir, c.size, c.clients, err)
				}
				for i := range v {
					cost[i] = append(cost[i], v[i])
				}
			}
			t, u, k, p := median(cost[0]), median(cost[1]), median(cost[2]), median(cost[3])
			fmt.Printf("| UDP %s %d B, %d clients | %.3g | %.3g | %.3g | %.3g | %.3f |\n", dir, c.size, c.clients, t, u, k, p, k/t)
		}
	}
	return nil
}

// kernelRound returns CPU seconds per million packets: of coturn's process, of ours in user space, of all that is ours with the kernel path,
// and of the program in the kernel.
func (g generator) kernelRound(through, direct site, ours, theirs string, up bool, size, clients int) (cost [4]float64, err error) {
	load := func(s *server) (float64, error) { return g.relayUDP(s, up, size, clients, 1) }
	if cost[0], err = with(func() (*server, error) { return through.startCoturn(theirs) }, load); err != nil {
		return cost, fmt.Errorf("coturn: %w", err)
	}
	if cost[1], err = with(func() (*server, error) { return through.startOurs(ours) }, load); err != nil {
		return cost, fmt.Errorf("ours: %w", err)
	}
	without, err := g.clock(&server{at: direct}, up, size, clients)
	if err != nil {
		return cost, fmt.Errorf("without a relay: %w", err)
	}
	kernel := func() (*server, error) { return through.startOurs(ours, "-set", "relay.kernel_path=require") }
	if cost[2], err = with(kernel, func(s *server) (float64, error) { return g.everything(s, up, size, clients) }); err != nil {
		return cost, fmt.Errorf("ours, kernel: %w", err)
	}
	cost[2] -= without
	if cost[3], err = with(kernel, func(s *server) (float64, error) { return g.inProgram(s, up, size, clients) }); err != nil {
		return cost, fmt.Errorf("ours, kernel, statistics: %w", err)
	}
	return cost, nil
}

// everything returns the seconds that a million packets take, and those of the server.
func (g generator) everything(s *server, up bool, size, clients int) (float64, error) {
	var clock float64
	spent, err := s.spent(func() (err error) {
		clock, err = g.clock(s, up, size, clients)
		return err
	})
	return clock + spent/float64(g.packets)*1e6, err
}

// clock returns the seconds that a million packets take.
func (g generator) clock(s *server, up bool, size, clients int) (float64, error) {
	lanes, closeAll, err := g.open(s, clients)
	defer closeAll()
	if err != nil {
		return 0, err
	}
	if _, _, err := pump(lanes, up, size, 1, g.packets/10); err != nil {
		return 0, err
	}
	begin := time.Now()
	got, lost, err := pump(lanes, up, size, 1, g.packets)
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d of %d packets were lost", lost, g.packets)
	}
	return time.Since(begin).Seconds() / float64(got) * 1e6, err
}

// inProgram has the kernel take the time of the program, which costs some itself, and makes sure that it relays.
func (g generator) inProgram(s *server, up bool, size, clients int) (float64, error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return 0, err
	}
	defer stats.Close()
	p, err := relayProgram()
	if err != nil {
		return 0, err
	}
	defer p.Close()
	before, err := p.Stats()
	if err != nil {
		return 0, err
	}
	if _, err := g.clock(s, up, size, clients); err != nil {
		return 0, err
	}
	after, err := p.Stats()
	if err != nil {
		return 0, err
	}
	runs := after.RunCount - before.RunCount
	if runs < uint64(g.packets) {
		return 0, fmt.Errorf("the program ran %d times for %d packets", runs, g.packets)
	}
	return (after.Runtime - before.Runtime).Seconds() / float64(runs) * 1e6, nil
}

// relayProgram finds the program of the server that was started last.
func relayProgram() (found *ebpf.Program, err error) {
	for id := ebpf.ProgramID(0); ; {
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return nil, err
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err != nil || info.Name != "jirani_turn" {
			p.Close()
			continue
		}
		if found != nil {
			found.Close()
		}
		found = p
	}
	if found == nil {
		return nil, errors.New("no program of the relay is loaded")
	}
	return found, nil
}
