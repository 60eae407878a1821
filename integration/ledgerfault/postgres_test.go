package ledgerfault

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/jirani/jirani/internal/pgtest"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/ledgertest"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/postgres"
)

func batchOf(next store.State) store.Batch {
	return store.Batch{Entries: [][]byte{{1}}, Evidence: make([]ledger.Evidence, 1), Next: next}
}

func openPostgres(tb testing.TB, dsn string) store.Store {
	tb.Helper()
	st, err := postgres.Open(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { st.Close() })
	return st
}

// replicas starts n registries on one database, with a mirror of the first.
func replicas(t *testing.T, dsn string, n int) (rs []*registry.Registry, o *observer) {
	t.Helper()
	key := ledgertest.NewSigningKey(t, testOrigin)
	for i := range n {
		st := openPostgres(t, dsn)
		if i == 0 {
			create(t, st, key)
		}
		r, _ := start(t, registry.Options{Store: st, Key: key})
		rs = append(rs, r)
	}
	o = observe(t, key.VKey())
	o.see(registry.NewHandler(rs[0]))
	return rs, o
}

func TestPostgreSQL(t *testing.T) {
	srv := pgtest.Start(t)
	t.Run("replicas race", func(t *testing.T) { replicasRace(t, srv) })
	t.Run("frozen lock holder", func(t *testing.T) { frozenHolder(t, srv) })
	t.Run("restart", func(t *testing.T) { restart(t, srv) })
}

func replicasRace(t *testing.T, srv *pgtest.Server) {
	rs, o := replicas(t, srv.NewDatabase(t), 3)
	a := &acks{}
	if failed := load(t.Context(), rs, 24, 0, 600, 30*time.Second, a); failed > 0 {
		t.Errorf("%d registrations failed", failed)
	}
	raceFor(t, rs[:2], 0, 20)
	raceFor(t, rs, 20, 40)
	for _, r := range rs {
		a.check(t, r)
	}
	o.agrees(t, rs[2])
}

// frozenHolder stops a process that holds the lock on the log. The others must
// go on after the idle timeout, and the frozen one must not commit when it
// comes back.
func frozenHolder(t *testing.T, srv *pgtest.Server) {
	dsn := srv.NewDatabase(t)
	rs, o := replicas(t, dsn, 2)
	a := &acks{}
	load(t.Context(), rs, 4, 0, 20, 30*time.Second, a)
	lines := make(chan string, 4)
	cmd, stdin := spawn(t, "hold", func(l string) { lines <- l }, "FAULTTEST_DB="+dsn)
	if l := <-lines; l != "locked" {
		t.Fatalf("child says %q", l)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if failed := load(t.Context(), rs, 4, 100, 120, 30*time.Second, a); failed > 0 {
		t.Errorf("%d registrations failed", failed)
	}
	t.Logf("writes stalled for %v", time.Since(begun).Round(10*time.Millisecond))
	size := rs[0].Status().Size
	_ = cmd.Process.Signal(syscall.SIGCONT)
	if _, err := io.WriteString(stdin, "commit\n"); err != nil {
		t.Fatal(err)
	}
	if l := <-lines; len(l) < 5 || l[:5] != "error" {
		t.Errorf("the thawed holder committed: %q", l)
	}
	if failed := load(t.Context(), rs, 4, 200, 220, 30*time.Second, a); failed > 0 || rs[0].Status().Size <= size {
		t.Errorf("%d registrations failed afterwards", failed)
	}
	for _, r := range rs {
		a.check(t, r)
	}
	o.agrees(t, rs[1])
}

// restart stops the database in the middle of registrations, as a crash and in
// order, and starts it again.
func restart(t *testing.T, srv *pgtest.Server) {
	rs, o := replicas(t, srv.NewDatabase(t), 2)
	a := &acks{}
	done := make(chan int, 1)
	go func() { done <- load(t.Context(), rs, 16, 0, 3000, 60*time.Second, a) }()
	for i, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGINT, syscall.SIGQUIT} {
		before := 200 * (i + 1)
		eventually(t, "registrations go on", func() bool { return a.len() >= before })
		srv.Stop(sig)
		srv.Run(t)
	}
	if failed := <-done; failed > 0 {
		t.Errorf("%d registrations failed", failed)
	}
	for _, r := range rs {
		if s := r.Status(); s.ReadOnly {
			t.Errorf("frozen: %s", s.Reason)
		}
		a.check(t, r)
	}
	o.agrees(t, rs[0])
}

// TestPostgreSQLFailover loses the primary in the middle of registrations and
// promotes its synchronous standby, which the servers' connection string names
// too.
func TestPostgreSQLFailover(t *testing.T) {
	const names = 4000
	primary := pgtest.Start(t)
	standby := primary.Standby(t)
	primary.Exec(t, "postgres", "CREATE DATABASE names")
	rs, o := replicas(t, primary.PairDSN(standby, "names"), 2)
	a := &acks{}
	done := make(chan int, 1)
	go func() { done <- load(t.Context(), rs, 16, 0, names, 60*time.Second, a) }()
	eventually(t, "registrations go on", func() bool { return a.len() >= 300 })
	begun := time.Now()
	primary.Stop(syscall.SIGQUIT)
	standby.Promote(t)
	after := a.len()
	eventually(t, "registrations go on with the standby", func() bool { return a.len() > after })
	t.Logf("failover after %d names; registrations stood still for %v", after, time.Since(begun).Round(10*time.Millisecond))
	if failed := <-done; failed > 0 || after == names {
		t.Errorf("%d registrations failed; %d were through before the failover", failed, after)
	}
	raceFor(t, rs, 0, 10)
	for _, r := range rs {
		if s := r.Status(); s.ReadOnly {
			t.Errorf("frozen: %s", s.Reason)
		}
		a.check(t, r)
	}
	o.agrees(t, rs[1])
	if got := o.Status().Names; got != names+10 {
		t.Errorf("the mirror has %d names, want %d: each once", got, names+10)
	}
}
