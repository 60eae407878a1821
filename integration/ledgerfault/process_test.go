package ledgerfault

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store/postgres"
	"github.com/jirani/jirani/nameserver/store/sqlite"
)

// child is what the test binary does as a process of its own: "serve" runs a
// registry on a SQLite file and registers names until it is killed, "hold"
// takes the lock of a PostgreSQL store and waits for a line to commit.
func child(role string) int {
	ctx := context.Background()
	var err error
	switch role {
	case "serve":
		err = serve(ctx, os.Getenv("FAULTTEST_DB"), os.Getenv("FAULTTEST_KEY"), os.Getenv("FAULTTEST_FROM"))
	case "hold":
		err = hold(ctx, os.Getenv("FAULTTEST_DB"))
	}
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, path, key, from string) error {
	st, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	k, err := ledger.ParseSigningKey(key)
	if err != nil {
		return err
	}
	r, err := registry.Open(ctx, registry.Options{Store: st, Key: k, Published: path + ".published"})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, registry.NewHandler(r)) }()
	go func() { _ = r.Run(ctx) }()
	fmt.Println("url", "http://"+l.Addr().String())
	first, _ := strconv.Atoi(from)
	for c := range 8 {
		go func() {
			for n := first + c; ; n += 8 {
				rec, err := r.RegisterVerified(ctx, ledgertest.Shape(n))
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Printf("ack %d %d\n", n, rec.Index) // one write: not torn
			}
		}()
	}
	select {}
}

func hold(ctx context.Context, dsn string) error {
	st, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	tx, err := st.Begin(ctx)
	if err != nil {
		return err
	}
	fmt.Println("locked")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	next := tx.State()
	next.Size++
	return tx.Commit(ctx, batchOf(next))
}

// spawn runs the test binary as a child and calls line with its output.
// A line written to stdin lets a holder commit.
func spawn(t *testing.T, role string, line func(string), env ...string) (cmd *exec.Cmd, stdin io.Writer) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "FAULTTEST_CHILD="+role)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			line(s.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return cmd, stdin
}

// TestKill9 kills a writing process again and again; what it acknowledged must
// be in the file, and the mirror must never see the log go back.
func TestKill9(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	key := ledgertest.NewSigningKey(t, testOrigin)
	create(t, openSQLite(t, path, sqlite.Options{}), key)
	o := observe(t, key.VKey())
	a := &acks{}
	for round := range 6 {
		before := a.len()
		cmd, _ := spawn(t, "serve", func(line string) {
			f := strings.Fields(line)
			switch {
			case len(f) == 3 && f[0] == "ack":
				n, _ := strconv.Atoi(f[1])
				index, _ := strconv.ParseInt(f[2], 10, 64)
				a.add(n, index)
			case len(f) == 2 && f[0] == "url":
				u, _ := url.Parse(f[1])
				o.see(httputil.NewSingleHostReverseProxy(u))
			case len(f) > 0 && f[0] == "error":
				t.Error(line)
			}
		}, "FAULTTEST_DB="+path, "FAULTTEST_KEY="+key.Encode(), "FAULTTEST_FROM="+strconv.Itoa(round*1_000_000))
		eventually(t, "child registers", func() bool { return a.len() > before+100+37*round })
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		o.see(nil)
	}
	r, _ := start(t, registry.Options{Store: openSQLite(t, path, sqlite.Options{}), Key: key, Published: path + ".published"})
	a.check(t, r)
	if failed := load(t.Context(), []*registry.Registry{r}, 1, 9_000_000, 9_000_005, 30*time.Second, a); failed > 0 {
		t.Errorf("the log takes no more names: %+v", r.Status())
	}
	o.see(registry.NewHandler(r))
	o.agrees(t, r)
	t.Logf("%d names acknowledged over 6 kills", a.len())
}
