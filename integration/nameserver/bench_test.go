package nameserver

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
	"github.com/jirani/jirani/nameserver/nameproto"
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
// reports the server's processor time for each, how often the yardstick's time
// that is, and the median time to an answer. A busy machine stretches
// processor time too, so that only the multiple means something elsewhere.
func measure(b *testing.B, c *child, clients int, request func(i int) *http.Request, yardstick func() time.Duration) {
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
	cpu := float64((c.cpu() - before).Nanoseconds()) / float64(b.N)
	b.ReportMetric(cpu/1000, "server-cpu-µs/op")
	if yardstick != nil {
		b.ReportMetric(cpu/float64(yardstick()), "×yardstick")
	}
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
				}, func() time.Duration { return verifyTime(b, names[0], bodies[0]) })
			})
		}
	}
}

// verifyTime is the processor time of the one thing a registration cannot do
// without: an RSA-4096 verification, with the key parsed.
func verifyTime(b *testing.B, name string, body []byte) time.Duration {
	r, err := nameproto.ParseRegistration(body)
	if err != nil {
		b.Fatal(err)
	}
	const n = 500
	before := ownCPU(b)
	for range n {
		if err := r.Entry(name).Verify(); err != nil {
			b.Fatal(err)
		}
	}
	return (ownCPU(b) - before) / n
}

// ownCPU is the processor time of this process.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLookup asks for a hundred registered names in turn: as stock
// clients do and with the proof, beside what the HTTP server takes for an
// answer of two kilobytes that costs nothing to make.
func BenchmarkLookup(b *testing.B) {
	const known = 100
	names, bodies := registrations(b, "b", known)
	for _, kind := range []struct{ name, path string }{
		{"bare", "/%s"}, {"name", "/name/%s"}, {"proof", "/name/%s?proof=1"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var c *child
			if kind.name == "bare" {
				c = startBare(b)
			} else {
				c = startChild(b, engines[0].settings(b)...)
				for i, name := range names {
					res, err := http.Post(c.base+"/name/"+name, "application/json", bytes.NewReader(bodies[i]))
					if err != nil {
						b.Fatal(err)
					}
					res.Body.Close()
				}
				http.DefaultClient.CloseIdleConnections()
			}
			measure(b, c, 16, func(i int) *http.Request {
				req, err := http.NewRequest(http.MethodGet, c.base+fmt.Sprintf(kind.path, names[i%known]), nil)
				if err != nil {
					b.Fatal(err)
				}
				return req
			}, nil)
		})
	}
}
