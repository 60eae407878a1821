package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/fake"
	"github.com/jirani/jirani/push/provider"
)

// The benchmarks measure the gateway's process alone: simulators and load run in children, which are this test
// binary under another role.
const childEnv = "JIRANI_PUSH_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "fake":
		childFake()
	case "load":
		childLoad()
	case "receivers":
		childReceivers()
	case "publish":
		childPublish()
	default:
		goleak.VerifyTestMain(m)
	}
}

// child starts this binary in a role. It ends when its standard input does.
func child(b *testing.B, role string, args ...string) (*bufio.Reader, io.WriteCloser) {
	b.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	return bufio.NewReader(out), in
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func childFake() {
	dir, err := os.MkdirTemp("", "jirani-push-bench-")
	check(err)
	n, err := fake.New(fake.Config{Script: fake.Script{Latency: 30 * time.Millisecond}}, dir)
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	check(json.NewEncoder(os.Stdout).Encode(n.Credentials))
	go func() { io.Copy(io.Discard, os.Stdin); cancel() }() // ends with the parent
	n.Run(ctx)
	os.RemoveAll(dir)
}

// cpu is the time this process has spent on processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchGateway is a gateway in its default configuration, but for the rate per token, whose providers are simulated
// in another process with 30 ms latency.
func benchGateway(b *testing.B) *Server {
	b.Helper()
	out, _ := child(b, "fake")
	sim := &fake.Network{}
	line, err := out.ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(line, &sim.Credentials); err != nil {
		b.Fatal(err)
	}
	if err := sim.Credentials.Trust(); err != nil {
		b.Fatal(err)
	}
	cfg := Default()
	cfg.Listen, cfg.Provider, cfg.UnifiedPush.VAPIDKeyFile = "127.0.0.1:0", "fake", b.TempDir()+"/vapid.pem"
	s, err := newServer(cfg, Deps{}, sim)
	if err != nil {
		b.Fatal(err)
	}
	return running(b, s)
}

// running runs s until the benchmark ends.
func running(b *testing.B, s *Server) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	return s
}

func report(b *testing.B, began time.Time, spent time.Duration, n int) {
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "pushes/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(n), "cpu-µs/push")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDispatch submits b.N pushes of high priority to distinct devices from inside the process, at most 4000
// under way.
func BenchmarkDispatch(b *testing.B) {
	sub, err := fake.NewSubscription("https://push.example/up")
	if err != nil {
		b.Fatal(err)
	}
	for name, target := range map[string]func(i int) provider.Target{
		"fcm": func(i int) provider.Target {
			return provider.Target{Platform: provider.Android, Token: provider.PushToken(fmt.Sprint(longToken, i))}
		},
		"apns": func(i int) provider.Target {
			return provider.Target{Platform: provider.IOS, Token: provider.PushToken(fmt.Sprintf("%064x", i)), Topic: "com.savoirfairelinux.ring"}
		},
		"unifiedpush-plain": func(i int) provider.Target {
			return provider.Target{Platform: provider.UnifiedPush, Token: provider.PushToken(fmt.Sprintf("https://h%d.example/up%d?up=1", i%100, i))}
		},
		"unifiedpush-encrypted": func(i int) provider.Target {
			return provider.Target{Platform: provider.UnifiedPush, Token: provider.PushToken(fmt.Sprintf("https://h%d.example/up%d?up=1", i%100, i)), Topic: sub.Topic()}
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := benchGateway(b)
			room := make(chan struct{}, 4000)
			var failed int
			send := func(n int) {
				var wg sync.WaitGroup
				for i := range n {
					room <- struct{}{}
					wg.Add(1)
					data, _ := provider.ParseData(fmt.Appendf(nil, benchData, i))
					m := &provider.Message{Target: target(i), Data: data, Priority: provider.High, Mutable: true, TTLGiven: true}
					err := s.Dispatcher().Submit(m, func(r dispatch.Result) {
						if r.Status != dispatch.Delivered {
							failed++
						}
						<-room
						wg.Done()
					})
					if err != nil {
						b.Error(err)
						<-room
						wg.Done()
					}
				}
				wg.Wait()
			}
			send(500) // connections, credentials
			began, before := time.Now(), cpu()
			send(b.N)
			report(b, began, cpu()-before, b.N)
			if failed > 0 {
				b.Errorf("%d not delivered", failed)
			}
		})
	}
}

var longToken = "fFz_" + strings.Repeat("x", 140) // as long as FCM's

const benchData = `{"ids":"%d","key":"39b4be4d1013aebe6628b69ee7f487b9e31e4266","pt":"videoCall","s":"SESS0002","t":1795242961302,"to":"acct1"}`

// BenchmarkCompat receives the pushes as upstream's proxies send them, one per HTTP request, from a child over 64
// kept connections, and BenchmarkBatch a hundred per request.
func BenchmarkCompat(b *testing.B) { benchHTTP(b, "/api/push", 1) }

func BenchmarkBatch(b *testing.B) { benchHTTP(b, "/v1/pushes", 100) }

func benchHTTP(b *testing.B, path string, per int) {
	s := benchGateway(b)
	count := func() (n uint64) {
		st := s.disp.Stats()["fcm"]
		return uint64(st.Waiting[0]+st.Waiting[1]+st.Waiting[2]) + uint64(st.InFlight)
	}
	began, before := time.Now(), cpu()
	out, _ := child(b, "load", "http://"+s.Addr().String()+path, strconv.Itoa(b.N), strconv.Itoa(per))
	if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "0" {
		b.Errorf("load ended with %q failures, %v", line, err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for count() > 0 {
		<-tick.C
	}
	report(b, began, cpu()-before, b.N)
}

// childLoad posts os.Args[2] pushes, os.Args[3] per request, to the URL os.Args[1].
func childLoad() {
	url := os.Args[1]
	total, _ := strconv.Atoi(os.Args[2])
	per, _ := strconv.Atoi(os.Args[3])
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	work := make(chan int, 64)
	var failures int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range work {
				var body bytes.Buffer
				if strings.HasSuffix(url, "/api/push") {
					fmt.Fprintf(&body, `{"notifications":[{"android":{"priority":"high","ttl":"86400s"},"data":`+benchData+`,"platform":2,"tokens":["%s%d"]}]}`, i, longToken, i)
				} else {
					body.WriteString(`{"pushes":[`)
					for j := range min(per, total-i) {
						if j > 0 {
							body.WriteByte(',')
						}
						fmt.Fprintf(&body, `{"platform":"android","priority":"high","data":`+benchData+`,"token":"%s%d"}`, i+j, longToken, i+j)
					}
					body.WriteString(`]}`)
				}
				res, err := client.Post(url, "application/json", &body)
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err != nil || res.StatusCode != 200 {
					mu.Lock()
					failures++
					mu.Unlock()
				}
			}
		})
	}
	for i := 0; i < total; i += per {
		work <- i
	}
	close(work)
	wg.Wait()
	fmt.Println(failures)
}

// benchDistributor is a gateway whose UnifiedPush server is on.
func benchDistributor(b *testing.B) *Server {
	b.Helper()
	cfg := Default()
	cfg.Listen, cfg.UnifiedPush.VAPIDKeyFile = "127.0.0.1:0", b.TempDir()+"/vapid.pem"
	cfg.Distributor.Enabled, cfg.Distributor.Listen, cfg.Distributor.State = true, "127.0.0.1:0", b.TempDir()
	s, err := New(cfg, Deps{})
	if err != nil {
		b.Fatal(err)
	}
	return running(b, s)
}

// BenchmarkIdleReceivers opens 4000 streams and says what one costs: bytes of memory in use by the process, and of
// its resident set.
func BenchmarkIdleReceivers(b *testing.B) {
	const n = 4000
	for _, kind := range []string{"json", "ws"} {
		b.Run(kind, func(b *testing.B) {
			s := benchDistributor(b)
			use, rss := memory()
			out, _ := child(b, "receivers", s.DistributorAddr().String(), kind, strconv.Itoa(n))
			if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != strconv.Itoa(n) {
				b.Fatalf("%q receivers, %v", line, err)
			}
			useAfter, rssAfter := memory()
			b.ReportMetric(float64(useAfter-use)/n, "B/receiver")
			b.ReportMetric(float64(rssAfter-rss)/n, "rss-B/receiver")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// memory returns the bytes in use after collection (heap and stacks) and the resident set.
func memory() (use, rss int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	return int64(m.HeapAlloc + m.StackInuse), pages * int64(os.Getpagesize())
}

// childReceivers opens os.Args[3] streams of the kind os.Args[2] and keeps them until its input ends.
func childReceivers() {
	n, _ := strconv.Atoi(os.Args[3])
	var conns []io.Closer
	for i := range n {
		if os.Args[2] == "ws" {
			c, _, err := websocket.Dial(context.Background(), fmt.Sprintf("http://%s/up%d/ws", os.Args[1], i), nil)
			check(err)
			_, _, err = c.Read(context.Background())
			check(err)
			continue
		}
		c, err := net.Dial("tcp", os.Args[1])
		check(err)
		fmt.Fprintf(c, "GET /up%d/json HTTP/1.1\r\nHost: x\r\nUser-Agent: ntfy/1.16 (play; Android 14)\r\n\r\n", i)
		br := bufio.NewReader(c)
		for line := ""; !strings.Contains(line, "open"); {
			line, err = br.ReadString('\n')
			check(err)
		}
		conns = append(conns, c)
	}
	fmt.Println(n)
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
}

// BenchmarkDistributor publishes b.N messages of 300 bytes from a child over 32 kept connections to 100 topics with
// one receiver each, in the same child.
func BenchmarkDistributor(b *testing.B) {
	s := benchDistributor(b)
	began, before := time.Now(), cpu()
	out, _ := child(b, "publish", s.DistributorAddr().String(), strconv.Itoa(b.N))
	line, err := out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != strconv.Itoa(b.N) {
		b.Errorf("%q received of %d, %v", line, b.N, err)
	}
	spent := cpu() - before
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "messages/s")
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/message")
	b.ReportMetric(0, "ns/op")
}

func childPublish() {
	addr := os.Args[1]
	total, _ := strconv.Atoi(os.Args[2])
	var received sync.WaitGroup
	received.Add(total)
	for t := range 100 {
		c, err := net.Dial("tcp", addr)
		check(err)
		fmt.Fprintf(c, "GET /up%d/json HTTP/1.1\r\nHost: x\r\n\r\n", t)
		br := bufio.NewReaderSize(c, 64<<10)
		for line := ""; !strings.Contains(line, "open"); {
			line, err = br.ReadString('\n')
			check(err)
		}
		go func() { // ends with the process
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if bytes.Contains(line, []byte(`"event":"message"`)) {
					received.Done()
				}
			}
		}()
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	body := bytes.Repeat([]byte{0xfe}, 300)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range work {
				req, err := http.NewRequest("POST", fmt.Sprintf("http://%s/up%d?up=1", addr, i%100), bytes.NewReader(body))
				check(err)
				req.Header.Set("Content-Encoding", "aes128gcm")
				res, err := client.Do(req)
				check(err)
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	for i := range total {
		work <- i
	}
	close(work)
	wg.Wait()
	received.Wait()
	fmt.Println(total)
}
