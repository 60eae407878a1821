package dhtinterop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jirani/jirani/dht"
	"github.com/jirani/jirani/dht/dhtnode"
	"github.com/jirani/jirani/integration/program"
	"github.com/jirani/jirani/internal/udpio"
)

// childEnv makes the test binary be a node of ours instead of running tests: one that can be killed without a word and whose memory is
// its own.
const childEnv = "DHTINTEROP_CHILD"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		if err := runChild(cfg); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// childConfig, childCall and childAnswer are what parent and child say, a line of JSON each.
type childConfig struct {
	Network   uint32
	Bootstrap string
}

type childCall struct {
	Op, Key, Data string
	Permanent     bool
}

type childAnswer struct {
	ID, Addr string // of the node, in the first line
	Good     int
	Heap     int // KiB
	Found    []string
	Error    string
}

// runChild is the child's main function. It ends with its standard input.
func runChild(env string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(env), &cfg); err != nil {
		return err
	}
	conn, err := udpio.Listen(context.Background(), loopback, udpio.Config{ReadBuffer: 1 << 20})
	if err != nil {
		return err
	}
	defer conn.Close()
	node := dhtnode.Config{Network: cfg.Network}
	if cfg.Bootstrap != "" {
		node.Bootstrap = []string{cfg.Bootstrap}
	}
	n, err := dhtnode.New(node, dhtnode.Deps{Conns: []dhtnode.Conn{conn}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	out := json.NewEncoder(os.Stdout)
	out.Encode(childAnswer{ID: n.ID().String(), Addr: conn.LocalAddr().String()})
	for in := json.NewDecoder(os.Stdin); ; {
		var call childCall
		if err := in.Decode(&call); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		out.Encode(call.do(ctx, n))
	}
}

func (call childCall) do(ctx context.Context, n *dhtnode.Node) (a childAnswer) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key := dht.HashText(call.Key)
	var err error
	switch call.Op {
	case "good":
		s := n.Stats()
		a.Good = s.IPv4.Good + s.IPv6.Good
	case "heap":
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		a.Heap = int(m.HeapAlloc >> 10)
	case "put":
		err = n.Put(ctx, key, text(call.Data), dhtnode.PutOptions{Permanent: call.Permanent})
	case "get":
		err = n.Get(ctx, key, dht.Query{}, func(v *dht.Value) bool {
			a.Found = append(a.Found, string(v.Data))
			return true
		})
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// child is a running child.
type child struct {
	cmd      *exec.Cmd
	id, addr string
	in       io.WriteCloser
	answers  chan childAnswer
	mu       sync.Mutex // one call at a time
	kill     func()
}

func startChild(t testing.TB, cfg childConfig) *child {
	t.Helper()
	env, err := json.Marshal(cfg)
	check(t, err)
	c := &child{cmd: exec.Command(os.Args[0]), answers: make(chan childAnswer, 1)}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childEnv+"="+string(env)), os.Stderr
	c.in, err = c.cmd.StdinPipe()
	check(t, err)
	out, err := c.cmd.StdoutPipe()
	check(t, err)
	check(t, c.cmd.Start())
	ended := make(chan struct{})
	go func() { // ends with the child
		defer close(ended)
		defer close(c.answers)
		for d := json.NewDecoder(bufio.NewReader(out)); ; {
			var a childAnswer
			if d.Decode(&a) != nil {
				c.cmd.Wait()
				return
			}
			c.answers <- a
		}
	}()
	c.kill = sync.OnceFunc(func() {
		c.cmd.Process.Kill()
		for range c.answers {
		}
		<-ended
	})
	t.Cleanup(c.kill)
	first, ok := <-c.answers
	if !ok {
		t.Fatal("a node of ours did not start")
	}
	c.id, c.addr = first.ID, first.Addr
	return c
}

func (c *child) call(call childCall) (childAnswer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := json.NewEncoder(c.in).Encode(call); err != nil {
		return childAnswer{}, err
	}
	select {
	case a, ok := <-c.answers:
		if !ok {
			return a, io.ErrUnexpectedEOF
		}
		if a.Error != "" {
			return a, fmt.Errorf("our %s: %s", call.Op, a.Error)
		}
		return a, nil
	case <-time.After(2 * patience):
		return childAnswer{}, fmt.Errorf("our %s: no answer", call.Op)
	}
}
