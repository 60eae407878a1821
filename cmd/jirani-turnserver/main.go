// Command jirani-turnserver is the TURN relay; see docs/operating/turnserver.md.
package main

import (
	"context"
	"os"

	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/turnserver"
)

const usage = `
Usage:
    jirani-turnserver [options]
    jirani-turnserver user add|del|list -config FILE [-realm NAME] [NAME]
    jirani-turnserver sessions [-ops URL] [-json]
    jirani-turnserver import-coturn [-o FILE] turnserver.conf

Relays UDP and TCP for Jami and other clients (STUN, TURN, RFC 6062). Without a configuration it serves this machine only, at 127.0.0.1
port 3478, with the user that Jami's clients carry: user, password and realm "ring".

Example:
    jirani-turnserver -set 'listeners=[{address: "203.0.113.5:3478", transports: [udp, tcp]}]' -set jami_user=on
`

func main() {
	args := os.Args[1:]
	if len(args) > 0 {
		if run, ok := commands[args[0]]; ok {
			os.Exit(run(args[1:], os.Stdin, os.Stdout, os.Stderr))
		}
	}
	os.Exit(service.Main(role(), args, os.Stdout, os.Stderr))
}

func role() service.Role[turnserver.Config] {
	return service.Role[turnserver.Config]{
		Program: program, Name: "turnserver", Usage: usage, DefaultOps: "127.0.0.1:9604", Default: turnserver.Default,
		New: func(ctx context.Context, cfg turnserver.Config, deps service.Deps) (service.Runner, error) {
			return turnserver.New(ctx, cfg, turnserver.Deps{Log: deps.Log, Metrics: deps.Metrics, Health: deps.Health})
		},
	}
}
