package pgtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby makes and starts a hot standby that streams from s, and has every
// later commit on s wait until the standby has it on disk.
func (s *Server) Standby(tb testing.TB) *Server {
	tb.Helper()
	b := newServer(tb)
	out, err := b.command("pg_basebackup", "-h", s.dir, "-U", "postgres", "-D", b.data(), "-X", "stream", "-c", "fast", "-R", "--no-sync").CombinedOutput()
	if err != nil {
		tb.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	b.configure(tb, "unix_socket_directories = '"+b.dir+"'\n")
	b.start(tb)
	s.Exec(tb, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.Exec(tb, "postgres", "SELECT pg_reload_conf()")
	s.await(tb, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')")
	return b
}

// Promote makes a standby a primary, and returns once it takes writes.
func (s *Server) Promote(tb testing.TB) {
	tb.Helper()
	s.Exec(tb, "postgres", "SELECT pg_promote(true, 60)")
	s.await(tb, "SELECT NOT pg_is_in_recovery()")
}

// PairDSN returns the connection string of a database that is on whichever of
// two servers takes writes.
func (s *Server) PairDSN(other *Server, database string) string {
	return fmt.Sprintf("host=%s,%s user=postgres dbname=%s target_session_attrs=read-write", s.dir, other.dir, database)
}

// await waits until a query says true.
func (s *Server) await(tb testing.TB, query string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(ctx)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ok := false; !ok; {
		if err := conn.QueryRow(ctx, query).Scan(&ok); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		<-tick.C
	}
}
