package dhtinterop

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/dhtinterop/theirs"
)

// cold is a node that knows one other and has done nothing yet. An operation of it starts with entering the network.
type cold struct {
	put, get, listen func(key string) error // enter and do it; get and listen until the value there has come
}

// inside is a network with values at "there", and where one enters it.
type inside struct {
	network uint32
	entries []string
}

// BenchmarkCold measures what a node that has just started needs until its first operation is done, ours and theirs by turns, over a link of
// 20 ms each way to a network of ten nodes of ours and ten of theirs.
func BenchmarkCold(b *testing.B) {
	theirs.Require(b)
	edge, there := joined(b, link{delay: 20 * time.Millisecond})
	in := newInside(b, there)
	kinds := map[string]func(testing.TB, place, uint32, string) cold{"ours": coldOurs, "theirs": coldTheirs}
	for _, op := range []string{"put", "get", "listen"} {
		for _, who := range []string{"ours", "theirs"} {
			all := b
			b.Run(op+"/"+who, func(b *testing.B) {
				var took []time.Duration
				for i := range b.N {
					c := kinds[who](all, edge, in.network, in.entries[i%len(in.entries)])
					start := time.Now()
					var err error
					switch op {
					case "put":
						err = c.put(fmt.Sprintf("%s-%s-%d-%d", op, who, b.N, i))
					case "get":
						err = c.get("there")
					case "listen":
						err = c.listen("there")
					}
					took = append(took, time.Since(start))
					check(b, err)
				} // the nodes stay until all is done: to meet the dead costs a second, and is another question
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
				b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-worst")
			})
		}
	}
}

func newInside(b *testing.B, p place) inside {
	b.Helper()
	in := inside{network: freshNetwork()}
	first := newOursAt(b, p, dhtnode.Config{Network: in.network}, false, netip.AddrPortFrom(p.addr, 0))
	entry := first.addr.String()
	in.entries = append(in.entries, entry)
	for range 9 {
		o := newOursAt(b, p, dhtnode.Config{Network: in.network, Bootstrap: []string{entry}}, false, netip.AddrPortFrom(p.addr, 0))
		in.entries = append(in.entries, o.addr.String())
	}
	var nodes []*theirs.Node
	for range 10 {
		n := theirs.StartNode(b, theirs.Options{Network: in.network, Bootstrap: entry, Start: p.starter()})
		nodes = append(nodes, n)
		in.entries = append(in.entries, p.at(n.Port))
	}
	for round := range 3 { // everybody looks for something, so that they meet
		for i, n := range nodes {
			_, err := n.Get(fmt.Sprintf("round-%d-%d", round, i), "")
			check(b, err)
		}
	}
	check(b, first.Put(first.ctx(), dht.HashText("there"), text("value"), dhtnode.PutOptions{Permanent: true}))
	return in
}

func coldOurs(t testing.TB, p place, network uint32, entry string) cold {
	o := newOursAt(t, p, dhtnode.Config{Network: network}, false, netip.AddrPortFrom(p.addr, 0))
	return cold{
		put: func(key string) error {
			o.Bootstrap(entry)
			o.put(key, text("v"))
			return nil
		},
		get: func(key string) error {
			o.Bootstrap(entry)
			if len(o.get(key)) == 0 {
				t.Error("our get found nothing")
			}
			return nil
		},
		listen: func(key string) error {
			o.Bootstrap(entry)
			o.listen(key)()
			return nil
		},
	}
}

func coldTheirs(t testing.TB, p place, network uint32, entry string) cold {
	py := theirs.StartPython(t, theirs.Options{Network: network, Start: p.starter()})
	return cold{
		put: func(key string) error {
			check(t, py.Bootstrap(entry))
			return py.Put(hexKey(key), theirs.Value{Data: []byte("v")})
		},
		get: func(key string) error {
			check(t, py.Bootstrap(entry))
			values, err := py.Get(hexKey(key), "")
			if err == nil && len(values) == 0 {
				t.Error("their get found nothing")
			}
			return err
		},
		listen: func(key string) error {
			check(t, py.Bootstrap(entry))
			next, err := py.Listen(hexKey(key))
			if err == nil {
				_, err = next()
			}
			return err
		},
	}
}
