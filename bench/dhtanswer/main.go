// Command dhtanswer measures what a DHT node pays for its answers: processor time per answered request and memory per
// stored value, ours and the reference's dhtnode in the same run, on loopback.
//
//	go run ./bench/dhtanswer                        # both nodes, all kinds, four busy sources
//	go run ./bench/dhtanswer -sources 1000 -row 1   # every answer goes to another source than the one before
//	go run ./bench/dhtanswer -n 50000               # fewer requests per kind
//
// The node measured is a process of its own (this program, re-executed with -serve, or dhtnode with its limits lifted);
// eight more nodes join it, four of each half of the ids, so that answers carry full node lists. Keys are of the half the node measured is
// in: others are farther from them, and every put is close enough to be stored. A closed loop keeps 64 requests in flight. Processor time is
// read from /proc/<pid>/stat before and after.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/dht/storage"
	"github.com/jirani/jirani/dht/wire"
	"github.com/jirani/jirani/internal/udpio"
)

// bench is what to measure.
type bench struct {
	count   int // requests of each kind
	values  int // stored
	sources int
	row     int
	queues  int
	gogc    int
}

func main() {
	var b bench
	flag.IntVar(&b.count, "n", 200_000, "requests of each kind")
	flag.IntVar(&b.values, "values", 100_000, "values stored for the memory row")
	flag.IntVar(&b.sources, "sources", 4, "addresses the requests come from, up to 65536")
	flag.IntVar(&b.row, "row", inFlight, "requests that one source sends in a row")
	flag.IntVar(&b.queues, "queues", 1, "receive queues of our node")
	flag.IntVar(&b.gogc, "gogc", 100, "GOGC of our node")
	serve := flag.String("serve", "", "be the node measured, on this `address`")
	only := flag.String("only", "", "measure one `peer`: jirani or dhtnode")
	flag.Parse()
	if *serve != "" {
		debug.SetGCPercent(b.gogc)
		fail(serveNode(*serve, b.queues))
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "peer\tkind\tanswered\tµs CPU each\trate/s\tRSS MiB")
	for i, peer := range []string{"jirani", "dhtnode"} {
		if *only != "" && *only != peer {
			continue
		}
		fail(b.measure(w, peer, netip.MustParseAddrPort("127.0.0.1:"+strconv.Itoa(4410+i))))
	}
	w.Flush()
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "dhtanswer: error:", err)
		os.Exit(1)
	}
}

func (b bench) command(peer string, addr netip.AddrPort) *exec.Cmd {
	if peer == "dhtnode" {
		return exec.Command("dhtnode", "-p", strconv.Itoa(int(addr.Port())), "-s", "-U")
	}
	return exec.Command(os.Args[0], "-serve", addr.String(), "-queues", strconv.Itoa(b.queues), "-gogc", strconv.Itoa(b.gogc))
}

func (b bench) measure(w *tabwriter.Writer, peer string, addr netip.AddrPort) error {
	cmd := b.command(peer, addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := neighbours(ctx, addr, 8); err != nil {
		return err
	}
	l, err := newLoad(addr, b.sources, b.row)
	if err != nil {
		return err
	}
	p := process(cmd.Process.Pid)
	for _, kind := range kinds {
		n := b.count
		if kind.kind == wire.Put {
			n = b.values
		}
		before, err := p.cpu()
		if err != nil {
			return err
		}
		start := time.Now()
		answered, err := l.run(kind, n)
		if err != nil {
			return err
		}
		took := time.Since(start)
		after, err := p.cpu()
		if err != nil {
			return err
		}
		rss, _ := p.rss()
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.0f\t%.1f\n", peer, kind.name, answered,
			float64(after-before)/float64(time.Microsecond)/float64(max(answered, 1)),
			float64(answered)/took.Seconds(), float64(rss)/(1<<20))
	}
	return measureIdle(w, peer, l, p)
}

// measureIdle compares a node's idle seconds before and after it took listens.
func measureIdle(w *tabwriter.Writer, peer string, l *load, p process) error {
	before, err := p.idle()
	if err != nil {
		return err
	}
	listened, err := l.run(kind{"listen", wire.Listen}, listens)
	if err != nil {
		return err
	}
	after, err := p.idle()
	if err != nil {
		return err
	}
	rss, _ := p.rss()
	fmt.Fprintf(w, "%s\tidle with %d listens, ms CPU per s: %.1f before, %.1f after\t\t\t\t%.1f\n", peer, listened,
		before, after, float64(rss)/(1<<20))
	return nil
}

func serveNode(addr string, queues int) error {
	n, err := newNode(netip.MustParseAddrPort(addr), queues, dhtnode.Config{})
	if err != nil {
		return err
	}
	return n.Run(context.Background())
}

func newNode(addr netip.AddrPort, queues int, cfg dhtnode.Config) (*dhtnode.Node, error) {
	group, err := udpio.ListenGroup(context.Background(), addr, queues, udpio.Config{ReadBuffer: 8 << 20})
	if err != nil {
		return nil, err
	}
	var conns []dhtnode.Conn
	for _, c := range group {
		conns = append(conns, c)
	}
	cfg.RateLimit, cfg.RateLimitPerSource = -1, -1
	cfg.Storage = storage.Limits{Bytes: 1 << 30, BytesPerSource: 1 << 30}
	return dhtnode.New(cfg, dhtnode.Deps{Conns: conns, Log: slog.New(slog.DiscardHandler)})
}

// neighbours runs nodes that join the one at addr and waits until they have.
func neighbours(ctx context.Context, addr netip.AddrPort, count int) error {
	var nodes []*dhtnode.Node
	for i := range count {
		cfg := dhtnode.Config{ID: dht.RandomInfoHash(), Bootstrap: []string{addr.String()}}
		cfg.ID.SetBit(0, i%2 == 0)
		n, err := newNode(netip.MustParseAddrPort("127.0.0.1:0"), 1, cfg)
		if err != nil {
			return err
		}
		go n.Run(ctx)
		nodes = append(nodes, n)
	}
	for deadline := time.Now().Add(15 * time.Second); ; {
		all := true
		for _, n := range nodes {
			v4, _ := n.Status()
			all = all && v4 == dhtnode.Connected
		}
		if all {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("neighbours cannot reach %v", addr)
		}
		<-time.After(50 * time.Millisecond)
	}
	<-time.After(6 * time.Second) // lets the node measured ping back those that talked to it
	return nil
}
