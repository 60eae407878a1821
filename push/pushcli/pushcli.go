// Package pushcli is the command line of jirani-push: the server, and "send", which sends one push by hand with the
// server's own configuration, to see whether credentials and a token are good.
package pushcli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/push"
	"github.com/jirani/jirani/push/dispatch"
	"github.com/jirani/jirani/push/provider"
)

// Main runs the command with the arguments that follow its name and returns the exit code: 0 when all is well, 1 for
// a failure, 2 for misuse.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "send" {
		return service.Main(push.Role, args, stdout, stderr)
	}
	err := send(ctx, args[1:], stdin, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, sendUsage)
		return 0
	case err == nil:
		return 0
	}
	fmt.Fprintf(stderr, "jirani-push: error: %v\n", err)
	var misuse misuseError
	if errors.As(err, &misuse) {
		fmt.Fprintln(stderr, "jirani-push: hint: jirani-push send -help shows what can be said")
		return 2
	}
	return 1
}

type misuseError struct{ error }

const sendUsage = `Usage: jirani-push send [options] < TOKEN

Sends one push with the server's configuration and prints what the provider
said. The device token, or the endpoint URL, is read from standard input or
from -token-file, because arguments can be seen by everybody on a machine.

Options:
    -config FILE      the server's configuration file
    -set KEY=VALUE    set one key; may be repeated
    -platform NAME    android, ios or unifiedpush
    -token-file FILE  file that holds the token
    -topic TEXT       ios: bundle id; unifiedpush: "p256dh|auth"
    -data JSON        the hint; default {"pong":true,"to":"jirani-push"}
    -priority NAME    high (default) or normal
    -kind NAME        ios: alert (default), background or voip
    -sandbox          ios: development environment
    -wait DURATION    how long to wait for the end, default 30s

Example, against a simulated provider:
    echo some-token | jirani-push send -set provider=fake -platform android
`

// sendFlags are the options of send.
type sendFlags struct {
	config.Source
	platform, tokenFile, topic, data, priority, kind string
	sandbox                                          bool
	wait                                             time.Duration
}

func parseSend(args []string) (sendFlags, error) {
	f := sendFlags{Source: config.Source{Prefix: "PUSH"}}
	set := flag.NewFlagSet("send", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.Path, "config", "", "")
	set.Func("set", "", func(s string) error { f.Set = append(f.Set, s); return nil })
	set.StringVar(&f.platform, "platform", "", "")
	set.StringVar(&f.tokenFile, "token-file", "", "")
	set.StringVar(&f.topic, "topic", "", "")
	set.StringVar(&f.data, "data", `{"pong":true,"to":"jirani-push"}`, "")
	set.StringVar(&f.priority, "priority", "high", "")
	set.StringVar(&f.kind, "kind", "alert", "")
	set.BoolVar(&f.sandbox, "sandbox", false, "")
	set.DurationVar(&f.wait, "wait", 30*time.Second, "")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return f, err
	} else if err != nil {
		return f, misuseError{err}
	}
	if set.NArg() > 0 {
		return f, misuseError{fmt.Errorf("unexpected argument %q", set.Arg(0))}
	}
	return f, nil
}

// message builds the push.
func (f sendFlags) message(stdin io.Reader) (*provider.Message, error) {
	platform, ok := provider.ParsePlatform(f.platform)
	if !ok {
		return nil, misuseError{errors.New("-platform: want android, ios or unifiedpush")}
	}
	kind, ok := provider.ParseKind(f.kind)
	if !ok {
		return nil, misuseError{errors.New("-kind: want alert, background or voip")}
	}
	if f.priority != "high" && f.priority != "normal" {
		return nil, misuseError{errors.New("-priority: want high or normal")}
	}
	data, err := provider.ParseData([]byte(f.data))
	if err != nil {
		return nil, misuseError{fmt.Errorf("-data: %w", err)}
	}
	token, err := f.token(stdin)
	if err != nil {
		return nil, err
	}
	m := &provider.Message{Target: provider.Target{Platform: platform, Token: token, Topic: f.topic, Sandbox: f.sandbox},
		Data: data, Kind: kind, Title: "hello", Mutable: kind == provider.Alert, TTLGiven: true}
	if f.priority == "high" {
		m.Priority = provider.High
	}
	return m, nil
}

func (f sendFlags) token(stdin io.Reader) (provider.PushToken, error) {
	if f.tokenFile != "" {
		file, err := os.Open(f.tokenFile)
		if err != nil {
			return "", err
		}
		defer file.Close()
		stdin = file
	}
	raw, err := io.ReadAll(io.LimitReader(stdin, 2*provider.MaxToken))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || len(token) > provider.MaxToken {
		return "", misuseError{errors.New("no token on standard input, or longer than 1000 bytes")}
	}
	return provider.PushToken(token), nil
}

func send(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	f, err := parseSend(args)
	if err != nil {
		return err
	}
	file := push.Role.Defaults()
	if err := config.Load(&file, f.Source); err != nil {
		return err
	}
	m, err := f.message(stdin)
	if err != nil {
		return err
	}
	cfg := file.Role
	cfg.Listen, cfg.Distributor.Enabled = "127.0.0.1:0", false // the server may be running
	cfg.TLS.CertFile, cfg.TLS.KeyFile, cfg.TLS.ACME.Domains, cfg.ClientCAFile = "", "", nil, ""
	cfg.Queue.Window, cfg.Queue.Drain, cfg.Feedback.WebhookURL = 0, 0, ""
	s, err := push.New(cfg, push.Deps{Log: logging.Discard()})
	if err != nil {
		return err
	}
	return deliver(ctx, s, m, f.wait, stdout)
}

// deliver runs the gateway for one message.
func deliver(ctx context.Context, s *push.Server, m *provider.Message, wait time.Duration, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	result := make(chan dispatch.Result, 1)
	if err := s.Dispatcher().Submit(m, func(r dispatch.Result) { result <- r; cancel() }); err != nil {
		cancel()
		return errors.Join(err, s.Run(ctx))
	}
	if err := s.Run(ctx); err != nil {
		return err
	}
	r := <-result
	fmt.Fprintf(stdout, "%s", r.Status)
	if r.Reason != "" {
		fmt.Fprintf(stdout, ": %s", r.Reason)
	}
	fmt.Fprintf(stdout, " (%d attempts, token %s)\n", r.Attempts, m.Token)
	if r.Status != dispatch.Delivered {
		return errors.New("not delivered")
	}
	return nil
}
