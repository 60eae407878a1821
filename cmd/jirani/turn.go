package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jirani/jirani/peer/doctor"
	"github.com/jirani/jirani/peer/turnclient"
)

const turnUsage = `Usage: jirani turn check -server HOST[:PORT] [OPTION…]

Uses a TURN server as a Jami client would: resolve, connect, ask for the own address, allocate, make a permission, relay data both ways from
a second allocation and from outside; over tcp and tls also a TCP allocation. Says what is wrong with the step that fails.
Run it on a machine that is not the server's, to see what others see.

    -server SERVER        host, host:port, or a URI such as turns:relay.example.org:5349
    -transport NAME       udp, tcp, tls or dtls; default: what the URI says, udp
    -user NAME            default ring, as in Jami
    -password-file FILE   the first line is the password; "-" for standard input
    -password PASSWORD    seen by whoever lists this machine's processes. Without either: $JIRANI_TURN_PASSWORD, or ring
    -ca FILE              trust this authority for tls and dtls too (PEM)
    -4, -6                use the server's IPv4 or IPv6 address only
    -timeout TIME         for each step; default 10s
    -json                 one JSON object

Exit code: 0 everything works, 1 a step failed, 2 misuse.

Example:
    jirani turn check -server relay.example.org -transport tcp -user ann -password-file secret
`

// passwordVariable holds the password when no option does.
const passwordVariable = "JIRANI_TURN_PASSWORD"

// errMisuse is a command line that cannot be understood.
var errMisuse = errors.New("misuse")

type turnOptions struct {
	server, transport, user, password, passwordFile, ca string
	four, six, json                                     bool
	timeout                                             time.Duration
}

func turnCommand(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && strings.HasPrefix(args[0], "-h") {
		fmt.Fprint(stdout, turnUsage)
		return 0
	}
	if len(args) == 0 || args[0] != "check" {
		return misuse(stderr, "want: jirani turn check -server HOST")
	}
	var o turnOptions
	switch err := o.parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, turnUsage)
		return 0
	case err != nil:
		return misuse(stderr, "%v", err)
	}
	cfg, err := o.config(os.Stdin)
	switch {
	case errors.Is(err, errMisuse):
		return misuse(stderr, "%v", err)
	case err != nil:
		return fail(stderr, err)
	}
	return checkTURN(cfg, o.json, stdout)
}

func (o *turnOptions) parse(args []string) error {
	set := flag.NewFlagSet("turn check", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&o.server, "server", "", "")
	set.StringVar(&o.transport, "transport", "", "")
	set.StringVar(&o.user, "user", "ring", "")
	set.StringVar(&o.password, "password", "", "")
	set.StringVar(&o.passwordFile, "password-file", "", "")
	set.StringVar(&o.ca, "ca", "", "")
	set.BoolVar(&o.four, "4", false, "")
	set.BoolVar(&o.six, "6", false, "")
	set.BoolVar(&o.json, "json", false, "")
	set.DurationVar(&o.timeout, "timeout", 10*time.Second, "")
	if err := set.Parse(args); err != nil {
		return err
	}
	switch {
	case o.server == "" || set.NArg() > 0:
		return errors.New("want: jirani turn check -server HOST")
	case o.four && o.six:
		return errors.New("-4 and -6 exclude each other")
	case o.password != "" && o.passwordFile != "":
		return errors.New("-password and -password-file exclude each other")
	case o.timeout < time.Second:
		return errors.New("-timeout is at least 1s")
	}
	return nil
}

func (o *turnOptions) config(stdin io.Reader) (cfg doctor.TURNConfig, err error) {
	cfg = doctor.TURNConfig{Username: o.user, Network: "ip", Timeout: o.timeout}
	if cfg.Server, err = turnclient.ParseURI(o.server); err != nil {
		return cfg, fmt.Errorf("%w: %v", errMisuse, err)
	}
	if o.transport != "" {
		if cfg.Server.Transport, err = turnclient.ParseTransport(o.transport); err != nil {
			return cfg, fmt.Errorf("%w: %v", errMisuse, err)
		}
	}
	switch {
	case o.four:
		cfg.Network = "ip4"
	case o.six:
		cfg.Network = "ip6"
	}
	if cfg.Password, err = o.secret(stdin); err != nil {
		return cfg, err
	}
	cfg.TLS, err = trusting(o.ca)
	return cfg, err
}

// secret finds the password.
func (o *turnOptions) secret(stdin io.Reader) (string, error) {
	switch {
	case o.password != "":
		return o.password, nil
	case o.passwordFile == "-":
		return firstLine(stdin)
	case o.passwordFile != "":
		f, err := os.Open(o.passwordFile)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return firstLine(f)
	}
	if p, ok := os.LookupEnv(passwordVariable); ok {
		return p, nil
	}
	return "ring", nil
}

// firstLine reads at most 4 KiB, without the line's end.
func firstLine(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 4<<10))
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if err == nil && line == "" {
		err = errors.New("the password is empty")
	}
	return line, err
}

// trusting is a configuration that trusts one more authority than the system.
func trusting(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

func checkTURN(cfg doctor.TURNConfig, asJSON bool, stdout io.Writer) int {
	if !asJSON {
		fmt.Fprintf(stdout, "%v as %s\n", cfg.Server, cfg.Username)
		cfg.Observe = func(s doctor.Step) { printStep(stdout, s) }
	}
	report := doctor.TURN(context.Background(), cfg)
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		_ = enc.Encode(report)
	}
	if !report.OK {
		return 1
	}
	if !asJSON {
		fmt.Fprintln(stdout, "everything works")
	}
	return 0
}

func printStep(w io.Writer, s doctor.Step) {
	if s.OK {
		fmt.Fprintf(w, "ok    %-12s %s (%.1f ms)\n", s.Name, s.Detail, s.Millis)
		return
	}
	fmt.Fprintf(w, "FAIL  %-12s %s (%.1f ms)\n", s.Name, s.Error, s.Millis)
	if s.Hint != "" {
		fmt.Fprintf(w, "      hint: %s\n", s.Hint)
	}
}
