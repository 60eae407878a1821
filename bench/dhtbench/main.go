// Command dhtbench compares what a DHT server pays for its work: the reference's dhtnode and our jirani-bootstrap, one
// after the other in the same run, under the same load over loopback.
//
//	go build -o /tmp/jirani-bootstrap ./cmd/jirani-bootstrap
//	go run ./bench/dhtbench -ours /tmp/jirani-bootstrap
//
// It measures, as medians of several runs, each against a fresh process:
//
//   - the processor time per answered find, get (one stored 200-byte value) and put at saturation, as /proc/<pid>/stat
//     counts it, user and system together. For find and get the server knows 32 nodes, so that answers are full;
//   - resident memory with 100,000 stored values of 200 bytes, each at a key of its own;
//   - processor time with 20,000 listens that hear nothing, over ten seconds, beside the same without them.
//
// The load is closed-loop: a fixed number of requests is kept in flight from eight sockets, and what gets lost is sent
// anew. The server runs on one processor (taskset), the generator on the others. Rates say little on a shared machine,
// so the table shows processor time and ratios.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// patience bounds one measurement: a server that stops answering is an error, not a pause.
const patience = 2 * time.Minute

type options struct {
	ours     string
	theirs   string
	requests int
	values   int
	listens  int
	runs     int
	cpu      string
	only     string
	keep     time.Duration // how long to leave the server after a measurement, for a profiler
}

func main() {
	var o options
	flag.StringVar(&o.ours, "ours", "", "path of jirani-bootstrap; empty leaves it out")
	flag.StringVar(&o.theirs, "theirs", "dhtnode", "path of dhtnode; empty leaves it out")
	flag.IntVar(&o.requests, "requests", 200_000, "answers per measurement")
	flag.IntVar(&o.values, "values", 100_000, "values stored for the memory measurement")
	flag.IntVar(&o.listens, "listens", 20_000, "listens for the idle measurement")
	flag.IntVar(&o.runs, "runs", 3, "runs of which the median counts")
	flag.StringVar(&o.cpu, "cpu", "0", "processor the server is bound to; empty leaves it free")
	flag.StringVar(&o.only, "only", "", "one of find, get, put, memory, listens")
	flag.DurationVar(&o.keep, "keep", 0, "leave each server alone this long after its load, for a profiler")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "dhtbench: error: %v\n", err)
		os.Exit(1)
	}
}

// measure is one row of the table: a number per server, less is better.
type measure struct {
	name string
	unit string
	run  func(context.Context, options, *server) (float64, error)
}

var measures = []measure{
	{"find", "µs CPU per answer", measureFind},
	{"get", "µs CPU per answer", measureGet},
	{"put", "µs CPU per answer", measurePut},
	{"memory", "MiB resident", measureMemory},
	{"listens", "ms CPU per idle second", measureListens},
}

func run(ctx context.Context, o options) error {
	fmt.Printf("| | unit | dhtnode | jirani-bootstrap | ratio |\n|---|---|---|---|---|\n")
	for _, m := range measures {
		if o.only != "" && o.only != m.name {
			continue
		}
		var results [2][]float64
		for range o.runs {
			for i, start := range []func(options) (*server, error){startTheirs, startOurs} {
				v, ok, err := once(ctx, o, m, start)
				if err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				if ok {
					results[i] = append(results[i], v)
				}
			}
		}
		theirs, ours := median(results[0]), median(results[1])
		fmt.Printf("| %s | %s | %s | %s | %s |\n", m.name, m.unit, show(results[0]), show(results[1]), ratio(ours, theirs))
	}
	return nil
}

func once(ctx context.Context, o options, m measure, start func(options) (*server, error)) (float64, bool, error) {
	s, err := start(o)
	if err != nil || s == nil {
		return 0, false, err
	}
	defer s.stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := m.run(ctx, o, s)
	if err == nil && o.keep > 0 {
		time.Sleep(o.keep)
	}
	return v, true, err
}

func median[T cmp.Ordered](v []T) (m T) {
	if len(v) == 0 {
		return m
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// show writes the median and the range.
func show(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	return strings.TrimSpace(fmt.Sprintf("%.3g (%.3g–%.3g)", median(v), slices.Min(v), slices.Max(v)))
}

func ratio(ours, theirs float64) string {
	if ours == 0 || theirs == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ours/theirs)
}
