package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jirani/jirani/internal/buildinfo"
	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/ops"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

const commonUsage = `
Options:
    -config FILE      read this YAML file; without one, the defaults of a trial on this machine
    -set KEY=VALUE    set one key, over file and environment; may be repeated
    -check            check the configuration and exit
    -print-config     print the configuration in force and exit
    -version          print the version and exit

Every key can also be set in the environment as %s_KEY, upper case, dots as underscores.
`

type flags struct {
	path                  string
	set                   []string
	check, print, version bool
}

// Main runs a server program with the arguments that follow its name and returns the exit code. It blocks until the server has ended.
func Main[C config.Validator](r Role[C], args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(r, args, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if f.version {
		fmt.Fprintln(stdout, buildinfo.Line(r.Program))
		return 0
	}
	file := r.Defaults()
	if err := config.Load(&file, f.source(r.Name)); err != nil {
		report(stderr, r.Program, f.path, err)
		return 1
	}
	switch {
	case f.print:
		err = config.Print(stdout, file)
	case f.check:
		fmt.Fprintln(stdout, "configuration is valid")
	default:
		err = run(r, f, file, stderr)
	}
	if err != nil {
		report(stderr, r.Program, f.path, err)
		return 1
	}
	return 0
}

func parseFlags[C config.Validator](r Role[C], args []string, stdout, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet(r.Program, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.path, "config", "", "")
	set.BoolVar(&f.check, "check", false, "")
	set.BoolVar(&f.print, "print-config", false, "")
	set.BoolVar(&f.version, "version", false, "")
	set.Func("set", "", func(s string) error { f.set = append(f.set, s); return nil })
	err := set.Parse(args)
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "%s\n"+commonUsage, strings.TrimSpace(r.Usage), envPrefix(r.Name))
	case err != nil:
		fmt.Fprintf(stderr, "%s: error: %v\n%s: hint: %s -help shows what can be said\n", r.Program, err, r.Program, r.Program)
	}
	return f, err
}

func (f flags) source(role string) config.Source {
	return config.Source{Path: f.path, Prefix: envPrefix(role), Set: f.set}
}

func envPrefix(role string) string { return strings.ToUpper(role) }

// run builds the process around the role and serves until a signal.
func run[C config.Validator](r Role[C], f flags, file File[C], stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	log := logging.New(file.Log, stderr)
	reg := newRegistry()
	var checks health.Checks
	deps := Deps{Log: log.Logger, Metrics: reg, Health: &checks}
	if r.Name != r.Program { // a program of one role says which
		deps.Log = log.With(logging.KeyRole, r.Name)
	}
	runner, err := r.New(ctx, file.Role, deps)
	if err != nil {
		return err
	}
	group := Group{{"", runner}}
	opsServer, err := ops.New(file.Ops, reg, &checks, group.OpsHandlers(), log.Logger)
	if err != nil {
		return abandon(runner, err)
	}
	group = append(group, Member{"ops", opsServer})
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	group = append(group, Member{"reload", reloads{hup, func() { reload(r, f, log, group) }}})
	announce(stderr, file.Log, group, opsServer.Addr())
	log.Info("started", "version", buildinfo.Version(), "ops", opsServer.Addr())
	began := time.Now()
	err = group.Run(ctx)
	log.Info("stopped", logging.KeyDuration, time.Since(began).Round(time.Millisecond))
	return err
}

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// abandon lets a runner that was built but cannot be used release what it holds: its Run with a context that is already done.
func abandon(runner Runner, err error) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(err, runner.Run(ctx))
}

// reload takes up what may change while running. The file's other keys wait for a restart.
func reload[C config.Validator](r Role[C], f flags, log *logging.Logger, group Group) {
	file := r.Defaults()
	err := config.Load(&file, f.source(r.Name))
	if err == nil {
		log.SetLevel(file.Log)
	}
	if err = errors.Join(err, group.Reload()); err != nil {
		log.Error("reload incomplete, what was in force stays", logging.KeyErr, err)
		return
	}
	log.Info("reloaded")
}

// reloads calls do for each signal until its context is done.
type reloads struct {
	signals <-chan os.Signal
	do      func()
}

func (r reloads) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.signals:
			r.do()
		}
	}
}

// announce tells the person at the terminal how to reach what has started. Logs in JSON are for machines; they get none of it.
func announce(w io.Writer, cfg logging.Config, group Group, opsAddr string) {
	if f, ok := w.(*os.File); !ok || cfg.Format == "json" || !logging.IsTerminal(f) {
		return
	}
	for _, line := range group.Announce() {
		fmt.Fprintln(w, line)
	}
	if opsAddr != "" {
		fmt.Fprintf(w, "operations: http://%s/metrics /healthz /readyz\n", opsAddr)
	}
}
