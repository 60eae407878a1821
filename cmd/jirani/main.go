//go:debug x509negativeserial=1

// Command jirani is a whole Jami network in one program, and the tools to look into one.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jirani/jirani/dht/dhtcli"
	"github.com/jirani/jirani/internal/buildinfo"
)

const usage = `Usage: jirani COMMAND [ARGUMENT…]

    jirani up                         start a network on this machine's addresses
    jirani init -o jirani.yaml        write the whole configuration, every key explained
    jirani config check jirani.yaml   check a configuration file
    jirani dht COMMAND                ask a DHT by hand: ping, find, get, put, listen, info
    jirani turn check -server HOST    use a TURN server as Jami would, and say what is wrong with it
    jirani version                    print the version

jirani COMMAND -help says more. Example: a network for the LAN, kept in /srv/jami

    jirani up -set state_dir=/srv/jami
`

// command runs with the arguments after its name and returns the exit code: 0, 1 for failure, 2 for misuse.
type command func(args []string, stdout, stderr io.Writer) int

var commands = map[string]command{
	"up":     up,
	"init":   initFile,
	"config": configCommand,
	"dht": func(args []string, stdout, stderr io.Writer) int {
		return dhtcli.Main(args, os.Stdin, stdout, stderr)
	},
	"turn": turnCommand,
	"version": func(_ []string, stdout, _ io.Writer) int {
		fmt.Fprintln(stdout, buildinfo.Line("jirani"))
		return 0
	},
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	name := strings.TrimLeft(args[0], "-")
	if name == "help" || name == "h" {
		fmt.Fprint(stdout, usage)
		return 0
	}
	c, ok := commands[name]
	if !ok {
		return misuse(stderr, "no command %q", args[0])
	}
	return c(args[1:], stdout, stderr)
}

// misuse says what is wrong with the command line and returns the exit code for it.
func misuse(stderr io.Writer, format string, args ...any) int {
	fmt.Fprintf(stderr, "jirani: error: "+format+"\njirani: hint: jirani help lists the commands\n", args...)
	return 2
}

// fail reports an error and returns the exit code for it.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "jirani: error: %v\n", err)
	return 1
}
