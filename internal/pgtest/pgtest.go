// Package pgtest runs a PostgreSQL server for a test: the real program from
// the Debian package, with a data directory of its own under the temporary
// directory, reached through a Unix socket only.
//
// The server refuses to run as root; then it runs as the user postgres. It ends
// with the test, and with the process, however that ends.
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTimeout bounds the wait for a server to take connections.
const startTimeout = 60 * time.Second

// Server is a PostgreSQL server of a test.
type Server struct {
	dir  string // data and socket
	bin  string
	cred *syscall.Credential
	cmd  *exec.Cmd
	done chan error
	next atomic.Int64
}

// Start makes and starts a server. Without the programs it skips the test, or
// fails it when JIRANI_REQUIRE is 1. The options are settings such as
// "synchronous_commit=off"; durability is stock without any.
func Start(tb testing.TB, options ...string) *Server {
	tb.Helper()
	s := newServer(tb)
	out, err := s.command("initdb", "-D", s.data(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	conf := "listen_addresses = ''\nunix_socket_directories = '" + s.dir + "'\nmax_connections = 60\nshared_buffers = '64MB'\nlogging_collector = off\n"
	for _, o := range options {
		conf += o + "\n"
	}
	s.configure(tb, conf)
	s.start(tb)
	return s
}

// newServer makes a server's directory.
func newServer(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{bin: binDir(tb)}
	var err error
	if s.dir, err = os.MkdirTemp("", "jirani-pg-"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(s.dir) })
	if os.Getuid() == 0 {
		s.becomePostgres(tb)
	}
	return s
}

// configure adds lines to the configuration; the last of a setting counts.
func (s *Server) configure(tb testing.TB, lines string) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(lines); err != nil {
		tb.Fatal(err)
	}
}

// start runs the server until the test ends.
func (s *Server) start(tb testing.TB) {
	tb.Helper()
	s.Run(tb)
	tb.Cleanup(func() { s.Stop(syscall.SIGQUIT) })
}

func binDir(tb testing.TB) string {
	tb.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(dirs) == 0 {
		if p, err := exec.LookPath("postgres"); err == nil {
			dirs = []string{p}
		}
	}
	if len(dirs) > 0 {
		return filepath.Dir(dirs[len(dirs)-1])
	}
	if os.Getenv("JIRANI_REQUIRE") == "1" {
		tb.Fatal("missing: PostgreSQL server (Debian package postgresql)")
	}
	tb.Skip("missing: PostgreSQL server (Debian package postgresql)")
	return ""
}

func (s *Server) becomePostgres(tb testing.TB) {
	tb.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		tb.Fatalf("root cannot run PostgreSQL and there is no user for it: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(s.dir, uid, gid); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	return cmd
}

// Run starts a server that was stopped, and waits until it takes connections.
func (s *Server) Run(tb testing.TB) {
	tb.Helper()
	var log bytes.Buffer
	cmd := s.command("postgres", "-D", s.data())
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	started, done := make(chan error), make(chan error, 1)
	go func() { // ends with the server
		// The parent-death signal is tied to the thread that starts the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	s.cmd, s.done = cmd, done
	if err := s.waitReady(); err != nil {
		tb.Fatalf("PostgreSQL does not start: %v\n%s", err, log.String())
	}
}

func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case exit := <-s.done:
			s.done <- exit
			return fmt.Errorf("server ended: %v", exit)
		case <-tick.C:
		}
	}
}

// DSN returns the connection string of a database, as superuser.
func (s *Server) DSN(database string) string {
	return "host=" + s.dir + " user=postgres dbname=" + database
}

// NewDatabase makes an empty database and returns its connection string.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("test%d", s.next.Add(1))
	s.Exec(tb, "postgres", "CREATE DATABASE "+name)
	return s.DSN(name)
}

// Exec runs SQL in a database.
func (s *Server) Exec(tb testing.TB, database, sql string) {
	tb.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.DSN(database))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		tb.Fatal(err)
	}
}

// Stop ends the server by a signal and waits: SIGINT disconnects clients and
// shuts down cleanly, SIGQUIT stops as a crash would. Stopping a stopped server
// does nothing.
func (s *Server) Stop(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	<-s.done
	s.cmd = nil
}
