// Package namecli is the command line of jirani-nameserver: the server itself,
// and the commands by which people look after its ledger or check it.
//
// Commands that change the ledger work on the store directly, as one more
// replica, and may be used while the server runs, except where their help says
// otherwise. Output for programs is JSON with -json; it goes to stdout alone.
// Exit codes: 0, 1 for a failure, 2 for misuse.
package namecli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver"
)

const program = "jirani-nameserver"

// errUsage says that the command line makes no sense.
var errUsage = errors.New("usage")

// An env is what a command works in.
type env struct {
	args   []string // after the command's name
	stdout io.Writer
	stderr io.Writer
}

// A command does one thing.
type command struct {
	name  string // one or two words
	usage string // arguments, and below it what it does
	run   func(ctx context.Context, e *env) error
}

func commands() []command {
	return []command{
		{"ledger init", initUsage, ledgerInit},
		{"ledger stat", statUsage, ledgerStat},
		{"ledger verify", verifyUsage, ledgerVerify},
		{"ledger export", exportUsage, ledgerExport},
		{"ledger restore", restoreUsage, ledgerRestore},
		{"ledger import", importUsage, ledgerImport},
		{"ledger promote", promoteUsage, ledgerPromote},
		{"ledger key rotate", rotateUsage, ledgerRotate},
		{"lookup", lookupUsage, lookup},
		{"proof verify", proofUsage, proofVerify},
		{"register", registerUsage, register},
		{"invite create", inviteCreateUsage, inviteCreate},
		{"invite revoke", inviteRevokeUsage, inviteRevoke},
		{"invite list", inviteListUsage, inviteList},
		{"reserve", reserveUsage, reserve},
		{"block", blockUsage, block},
		{"witness init", witnessUsage, witnessInit},
	}
}

// Main runs the server or a command with the arguments that follow the
// program's name, and returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		role := nameserver.Role
		role.Usage = usage()
		return service.Main(role, args, stdout, stderr)
	}
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c.main(ctx, &env{args: args[len(words):], stdout: stdout, stderr: stderr})
		}
	}
	fmt.Fprintf(stderr, "%s: error: no command %q\n%s: hint: %s -help lists them\n", program, strings.Join(args, " "), program, program)
	return 2
}

func (c command) main(ctx context.Context, e *env) int {
	err := c.run(ctx, e)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(e.stdout, "Usage: %s %s %s\n", program, c.name, strings.TrimSpace(c.usage))
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(e.stderr, "%s: error: %s: %v\n%s: hint: %s %s -help\n", program, c.name, err, program, program, c.name)
		return 2
	}
	service.Report(e.stderr, program, err)
	return 1
}

func usage() string {
	var b strings.Builder
	b.WriteString(`Usage: jirani-nameserver [options]
       jirani-nameserver COMMAND …

Serves Jami's names. Without a file it serves on 127.0.0.1:8081, open to
everybody on this machine, with its state under jirani-data/nameserver.

Commands, each with its own -help:
`)
	for _, c := range commands() {
		_, what, _ := strings.Cut(strings.TrimSpace(c.usage), "\n\n")
		what, _, _ = strings.Cut(what, "\n")
		fmt.Fprintf(&b, "    %-18s %s\n", c.name, what)
	}
	b.WriteString(`
Example:
    jirani-nameserver ledger init -config nameserver.yaml
    jirani-nameserver -config nameserver.yaml`)
	return b.String()
}

// flags are those of one command.
type flags struct {
	*flag.FlagSet
	json   bool
	config string
	set    []string
}

// newFlags returns the flags of a command that works on the store.
func newFlags() *flags {
	f := newRemoteFlags()
	f.StringVar(&f.config, "config", "", "")
	f.Func("set", "", func(s string) error { f.set = append(f.set, s); return nil })
	return f
}

// newRemoteFlags returns the flags of a command that needs no configuration.
func newRemoteFlags() *flags {
	f := &flags{FlagSet: flag.NewFlagSet("", flag.ContinueOnError)}
	f.SetOutput(io.Discard)
	f.BoolVar(&f.json, "json", false, "")
	return f
}

// parse reads the command line; want is how many arguments besides flags there
// must be. Flags may come before and after arguments.
func (f *flags) parse(e *env, want int) ([]string, error) {
	var rest []string
	args := e.args
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if args = f.Args(); len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	if len(rest) != want {
		return nil, fmt.Errorf("%w: %d arguments, want %d", errUsage, len(rest), want)
	}
	return rest, nil
}

// load reads the server's configuration.
func (f *flags) load() (nameserver.Config, error) {
	file := nameserver.Role.Defaults()
	err := config.Load(&file, config.Source{Path: f.config, Prefix: "NAMESERVER", Set: f.set})
	return file.Role, err
}

// show prints v as JSON, or what text prints.
func (f *flags) show(e *env, v any, text func(w io.Writer)) error {
	if !f.json {
		text(e.stdout)
		return nil
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
