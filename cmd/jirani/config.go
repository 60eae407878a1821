package main

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/jirani/jirani/allinone"
	"github.com/jirani/jirani/internal/service"
)

const configUsage = `Usage: jirani config check FILE

Checks the configuration of a network and names each mistake with its line.
`

func configCommand(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && strings.HasPrefix(args[0], "-h") {
		fmt.Fprint(stdout, configUsage)
		return 0
	}
	if len(args) != 2 || args[0] != "check" {
		return misuse(stderr, "want: jirani config check FILE")
	}
	return service.Main(upRole, []string{"-check", "-config", args[1]}, stdout, stderr)
}

const initUsage = `Usage: jirani init -o FILE [-host NAME]

Writes the configuration of a whole network with every key explained. It does not overwrite.

    -o FILE      the file to write; "-" for standard output
    -host NAME   the public name of this machine: the file is for a server on the Internet, with a TURN user and password of its own
                 (in turn-users beside the file) and names by invitation. Without it the file is for a LAN.

Example:
    jirani init -o jirani.yaml -host jami.example.org && jirani up -config jirani.yaml
`

func initFile(args []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("init", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	out := set.String("o", "", "")
	host := set.String("host", "", "")
	switch err := set.Parse(args); {
	case err == flag.ErrHelp:
		fmt.Fprint(stdout, initUsage)
		return 0
	case err != nil:
		return misuse(stderr, "%v", err)
	case *out == "" || set.NArg() > 0:
		return misuse(stderr, "want: jirani init -o FILE")
	}
	if *out == "-" {
		fmt.Fprint(stdout, allinone.Sample())
		return 0
	}
	written, err := allinone.Init(*out, *host)
	if err != nil {
		return fail(stderr, err)
	}
	for _, w := range written {
		fmt.Fprintln(stdout, w)
	}
	return 0
}
