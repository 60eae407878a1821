package nameserver

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
)

// engines are the stores to measure, each with the settings of a fresh one.
var engines = []struct {
	name     string
	settings func(testing.TB) []string
}{
	{"sqlite", func(tb testing.TB) []string { return []string{"state_dir=" + tb.TempDir()} }},
	{"postgres", func(tb testing.TB) []string {
		pg := pgtest.Start(tb)
		return []string{
			"state_dir=" + tb.TempDir(), "store.engine=postgres",
			"store.dsn_file=" + dsnFile(tb, pg.DSN(pg.NewDatabase(tb))),
		}
	}},
}

// measure sends requests from that many clients on kept connections and
// reports the server's processor time for each and the median time to an
// answer.
func measure(b *testing.B, c *child, clients int, request func(i int) *http.Request) {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}
	client := &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()
	requests := make([]*http.Request, b.N)
	for i := range requests {
		requests[i] = request(i)
	}
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	before := c.cpu()
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				began := time.Now()
				res, err := client.Do(requests[i])
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Errorf("%s: %s", requests[i].URL, res.Status)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((c.cpu()-before).Microseconds())/float64(b.N), "server-cpu-µs/op")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// BenchmarkRegister is a durable registration over HTTP with RSA-4096
// verified: from one client at a time, and from many. Run it with a fixed
// count such as -benchtime 3000x.
func BenchmarkRegister(b *testing.B) {
	for _, e := range engines {
		for _, clients := range []int{1, 128} {
			b.Run(fmt.Sprintf("%s/clients=%d", e.name, clients), func(b *testing.B) {
				c := startChild(b, e.settings(b)...)
				names, bodies := registrations(b, "b", b.N)
				measure(b, c, clients, func(i int) *http.Request {
					req, err := http.NewRequest(http.MethodPost, c.base+"/name/"+names[i], bytes.NewReader(bodies[i]))
					if err != nil {
						b.Fatal(err)
					}
					return req
				})
			})
		}
	}
}

// BenchmarkLookup asks for a hundred registered names in turn: as stock
// clients do, with the proof, and the other way round.
func BenchmarkLookup(b *testing.B) {
	const known = 100
	names, bodies := registrations(b, "b", known)
	for _, kind := range []struct{ name, path string }{{"name", "/name/%s"}, {"proof", "/name/%s?proof=1"}} {
		b.Run(kind.name, func(b *testing.B) {
			c := startChild(b, engines[0].settings(b)...)
			for i, name := range names {
				res, err := http.Post(c.base+"/name/"+name, "application/json", bytes.NewReader(bodies[i]))
				if err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
			}
			http.DefaultClient.CloseIdleConnections()
			measure(b, c, 16, func(i int) *http.Request {
				req, err := http.NewRequest(http.MethodGet, c.base+fmt.Sprintf(kind.path, names[i%known]), nil)
				if err != nil {
					b.Fatal(err)
				}
				return req
			})
		})
	}
}
