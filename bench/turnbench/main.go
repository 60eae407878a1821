// Command turnbench measures TURN servers side by side: this module's and coturn, in one run, each on one processor with the generator on
// another. It prints a Markdown table of CPU time of the server process per unit of work, from /proc, and the ratio. Everything stays on
// loopback, or with -kernel in network namespaces, and is bounded in count and time.
//
//	go build -o /tmp/jirani-turnserver ./cmd/jirani-turnserver
//	go run ./bench/turnbench -ours /tmp/jirani-turnserver
//
// Packets are kept in a window, so that no queue overflows and both servers do the same work: a packet counts when it has come out on the
// other side. One client is a busy one; fifty with single packets of 172 bytes are calls, with bursts of eight of 1200 bytes are frames of video.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// measurement is one number of one case: less is better.
type measurement struct {
	name, unit string
	run        func(*server) (float64, error)
}

func main() {
	ours := flag.String("ours", "", "path of jirani-turnserver")
	theirs := flag.String("theirs", "/usr/bin/turnserver", "path of coturn's turnserver, or empty")
	only := flag.String("run", "", "measure only what contains this text")
	rounds := flag.Int("rounds", 3, "rounds; the median counts")
	packets := flag.Int("packets", 300_000, "packets per round of relaying")
	gro := flag.Bool("gro", false, "the generator takes joined datagrams, as a network card with segmentation would pass them on")
	kernel := flag.Bool("kernel", false, "measure the data path in the kernel instead, over cables between network namespaces; needs root")
	flag.Parse()
	if *ours == "" {
		fmt.Fprintln(os.Stderr, "turnbench: error: -ours is wanted")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(1)
	var self unix.CPUSet
	self.Set(generatorCPU)
	if err := unix.SchedSetaffinity(0, &self); err != nil {
		fmt.Fprintln(os.Stderr, "turnbench: error: pin to a processor:", err)
		os.Exit(1)
	}
	g := generator{packets: *packets, gro: *gro}
	if *kernel {
		if err := g.compareKernel(*ours, *theirs, *rounds); err != nil {
			fmt.Fprintln(os.Stderr, "turnbench: error:", err)
			os.Exit(1)
		}
		return
	}
	err := compare(g.measurements(), *ours, *theirs, *only, *rounds)
	if err == nil && *theirs != "" && strings.Contains(latencyName, *only) {
		err = g.compareLatency(*ours, *theirs, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "turnbench: error:", err)
		os.Exit(1)
	}
}

// compare runs every measurement on both servers in turn, rounds times.
func compare(ms []measurement, ours, theirs, only string, rounds int) error {
	fmt.Println("| what | unit | ours | coturn | ratio |\n|---|---|---|---|---|")
	for _, m := range ms {
		if !strings.Contains(m.name, only) {
			continue
		}
		var a, b []float64
		for range rounds {
			v, err := once(m, func() (*server, error) { return loopback.startOurs(ours) })
			if err != nil {
				return fmt.Errorf("%s: ours: %w", m.name, err)
			}
			a = append(a, v)
			if theirs == "" {
				continue
			}
			if v, err = once(m, func() (*server, error) { return loopback.startCoturn(theirs) }); err != nil {
				return fmt.Errorf("%s: coturn: %w", m.name, err)
			}
			b = append(b, v)
		}
		x, y := median(a), median(b)
		fmt.Printf("| %s | %s | %.3g | %.3g | %.2f |\n", m.name, m.unit, x, y, x/y)
	}
	return nil
}

func once(m measurement, start func() (*server, error)) (float64, error) { return with(start, m.run) }

func median[T cmp.Ordered](v []T) (m T) {
	if len(v) == 0 {
		return m
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
