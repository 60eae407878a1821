package namecli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/nameserver"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		program: func() { os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts in testdata/script. Besides testscript's own
// commands they have:
//
//	serve FILE       runs a server with that configuration until the script ends or stop; its URL is $SERVER
//	stop             stops it
//	accountkey FILE  makes an account key
//	getjson VAR KEY  sets VAR to a member of the JSON on stdout
func TestScripts(t *testing.T) {
	testscript.Run(t, params(testscript.Params{Dir: "testdata/script"}))
}

// params adds our commands to p.
func params(p testscript.Params) testscript.Params {
	p.Setup = func(e *testscript.Env) error {
		e.Values[serverKey{}] = new(running)
		e.Setenv("NAMESERVER_LISTEN", "127.0.0.1:0")
		return nil
	}
	p.Cmds = map[string]func(*testscript.TestScript, bool, []string){
		"serve": serve, "stop": stop, "accountkey": accountKey, "getjson": getJSON,
	}
	return p
}

type serverKey struct{}

// running is the server of one script.
type running struct{ stop func() }

func serve(ts *testscript.TestScript, _ bool, args []string) {
	file := nameserver.Role.Defaults()
	ts.Check(config.Load(&file, config.Source{Path: ts.MkAbs(args[0])}))
	file.Role.Listen = "127.0.0.1:0"
	file.Role.StateDir = ts.MkAbs(file.Role.StateDir)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := nameserver.New(ctx, file.Role, nameserver.Deps{})
	if err != nil {
		cancel()
		ts.Fatalf("serve: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := ts.Value(serverKey{}).(*running)
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			ts.Logf("server: %v", err)
		}
		r.stop = func() {}
	}
	ts.Defer(func() { r.stop() })
	ts.Setenv("SERVER", "http://"+s.Addr())
}

func stop(ts *testscript.TestScript, _ bool, _ []string) {
	if r := ts.Value(serverKey{}).(*running); r.stop != nil {
		r.stop()
	}
}

func accountKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func getJSON(ts *testscript.TestScript, _ bool, args []string) {
	var m map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &m))
	v, ok := m[args[1]].(string)
	if !ok {
		ts.Fatalf("no string %q on stdout", args[1])
	}
	ts.Setenv(args[0], v)
}

// TestUsage holds every command to a usage text and to -help.
func TestUsage(t *testing.T) {
	for _, c := range commands() {
		var out, errs strings.Builder
		if code := Main(t.Context(), append(strings.Fields(c.name), "-help"), &out, &errs); code != 0 || errs.Len() > 0 {
			t.Errorf("%s -help: exit %d, %s", c.name, code, &errs)
		}
		if !strings.HasPrefix(out.String(), "Usage: jirani-nameserver "+c.name+" ") || !strings.Contains(out.String(), "\n\n") {
			t.Errorf("%s -help prints %q", c.name, &out)
		}
	}
}
