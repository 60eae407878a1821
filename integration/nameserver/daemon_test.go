//go:build linux

package nameserver

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jirani/jirani/integration/jamid"
	"github.com/jirani/jirani/internal/certs"
	"github.com/jirani/jirani/internal/natlab"
)

const (
	startBound = 60 * time.Second
	stepBound  = 30 * time.Second
)

// server is a name server as a process in the lab.
type server struct {
	t    *testing.T
	lab  *natlab.Lab
	host *natlab.Machine
	url  string
	cmd  *exec.Cmd

	certFile, keyFile string
}

// startServer runs the name server on port 80 of the lab's server, where
// clients of 2023 go for "name@host" too, and on port 443.
func startServer(t *testing.T, lab *natlab.Lab) *server {
	t.Helper()
	host := lab.Host("server")
	s := &server{t: t, lab: lab, host: host, url: "http://" + host.Addr.String()}
	cert, err := certs.SelfSigned(time.Now(), time.Hour, host.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	if s.certFile, s.keyFile, err = certs.WriteFiles(t.TempDir(), cert); err != nil {
		t.Fatal(err)
	}
	s.run()
	t.Cleanup(s.kill)
	return s
}

func (s *server) run() {
	s.t.Helper()
	log, err := s.lab.LogFile("server", "nameserver")
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(exe,
		"-set", "listen="+netip.AddrPortFrom(s.host.Addr, 80).String(),
		"-set", "state_dir="+filepath.Join(s.lab.Dir, "server", "state"),
		"-set", "tls_listen="+netip.AddrPortFrom(s.host.Addr, 443).String(),
		"-set", "tls.cert_file="+s.certFile, "-set", "tls.key_file="+s.keyFile,
		"-set", "ledger.create=true", "-set", "policy.mode=open", "-set", "ops.listen=", "-set", "log.level=debug")
	s.cmd.Env = append(os.Environ(), asServer+"=1")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.host.Start(s.cmd); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), startBound)
	defer cancel()
	for s.get(ctx, "/v1/status") != http.StatusOK {
		select {
		case <-ctx.Done():
			s.t.Fatal("the name server does not answer")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// kill ends the server as a power cut does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // already gone is as good
	_ = s.cmd.Wait()
}

// get asks the server from its own machine and returns the status, 0 for no
// answer.
func (s *server) get(ctx context.Context, path string) int {
	client := http.Client{Transport: &http.Transport{DialContext: s.host.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// arrive starts a person's daemon with an account on the name server.
func arrive(t *testing.T, lab *natlab.Lab, who, nameServer string, env ...string) *jamid.Account {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startBound)
	defer cancel()
	d, err := jamid.Start(ctx, jamid.Config{Machine: lab.Host(who), Dir: filepath.Join(lab.Dir, who, "home"), Env: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	account, err := d.AddAccount(ctx, jamid.Settings{DisplayName: who, NameServer: nameServer})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// TestJamiDaemon is the judge: an unmodified client registers, looks up both
// ways, hears "taken" and "not found", and still does after the server was
// killed.
func TestJamiDaemon(t *testing.T) {
	natlab.Require(t, jamid.Program, "dbus-daemon")
	lab := natlab.New(t, natlab.TwoPublic("names"))
	s := startServer(t, lab)
	alice, bob := arrive(t, lab, "alice", s.url), arrive(t, lab, "bob", s.url)

	register := func(a *jamid.Account, name string, want int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), stepBound)
		defer cancel()
		if got, err := a.RegisterName(ctx, name); err != nil || got != want {
			t.Errorf("registerName(%q) = %d, %v, want %d", name, got, err, want)
		}
	}
	lookUp := func(a *jamid.Account, name string, want jamid.Found) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), stepBound)
		defer cancel()
		if got, err := a.LookupName(ctx, "", name); err != nil || got.Result != want.Result || got.Address != want.Address {
			t.Errorf("lookupName(%q) = %+v, %v, want %+v", name, got, err, want)
		}
	}
	reverse := func(a *jamid.Account, nameServer, address string, want jamid.Found) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), stepBound)
		defer cancel()
		if got, err := a.LookupAddress(ctx, nameServer, address); err != nil || got.Result != want.Result || got.Name != want.Name {
			t.Errorf("lookupAddress(%q) = %+v, %v, want %+v", address, got, err, want)
		}
	}

	lookUp(bob, "alice", jamid.Found{Result: jamid.LookupNotFound})
	register(alice, "Alice", jamid.NameRegistered)
	register(bob, "alice", jamid.NameTaken)
	lookUp(bob, "alice", jamid.Found{Result: jamid.LookupFound, Address: alice.URI})
	reverse(bob, s.url, alice.URI, jamid.Found{Result: jamid.LookupFound, Name: "alice"})
	reverse(alice, s.url, bob.URI, jamid.Found{Result: jamid.LookupNotFound})

	s.kill()
	s.run()
	register(bob, "bob", jamid.NameRegistered)
	lookUp(alice, "bob", jamid.Found{Result: jamid.LookupFound, Address: bob.URI})
	if status := s.get(t.Context(), "/name/alice"); status != http.StatusOK {
		t.Errorf("alice's name after the kill: status %d", status)
	}
	strays, err := lab.Strays()
	if err != nil || len(strays) > 0 {
		t.Errorf("traffic to elsewhere: %v, %v", strays, err)
	}
}

// TestJamiDaemonOverTLS has one client come by HTTPS, with the server's
// certificate among those it trusts, and another that does not trust it.
func TestJamiDaemonOverTLS(t *testing.T) {
	natlab.Require(t, jamid.Program, "dbus-daemon")
	lab := natlab.New(t, natlab.TwoPublic("namestls"))
	s := startServer(t, lab)
	url := "https://" + s.host.Addr.String()
	alice := arrive(t, lab, "alice", url, "CA_ROOT_FILE="+s.certFile)
	bob := arrive(t, lab, "bob", url)
	for _, x := range []struct {
		who  *jamid.Account
		name string
		want int
	}{{alice, "alice", jamid.NameRegistered}, {bob, "bob", jamid.NameError}} {
		ctx, cancel := context.WithTimeout(t.Context(), stepBound)
		if got, err := x.who.RegisterName(ctx, x.name); err != nil || got != x.want {
			t.Errorf("registerName(%q) = %d, %v, want %d", x.name, got, err, x.want)
		}
		cancel()
	}
	if status := s.get(t.Context(), "/name/alice"); status != http.StatusOK {
		t.Errorf("alice's name: status %d", status)
	}
	if status := s.get(t.Context(), "/name/bob"); status != http.StatusNotFound {
		t.Errorf("bob's name: status %d", status)
	}
}
