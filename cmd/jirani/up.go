package main

import (
	"context"
	"io"

	"github.com/jirani/jirani/allinone"
	"github.com/jirani/jirani/internal/service"
)

const upUsage = `
Usage: jirani up [-config FILE] [-set KEY=VALUE]…

Starts a whole Jami network in one process: DHT node with LAN discovery, name server, TURN relay, and a page that tells people what to
type into Jami. Without a file it listens on all addresses of this machine, finds them by itself, and keeps everything below
./jirani-data; a second start continues where the first ended. Ctrl-C ends it.

Examples:
    jirani up
    jirani up -set state_dir=/srv/jami -set host=jami.lan
    jirani up -set roles=[bootstrap,turnserver]
`

var upRole = service.Role[allinone.Config]{
	Program:    "jirani",
	Name:       "jirani",
	Usage:      upUsage,
	DefaultOps: "127.0.0.1:9600",
	Default:    allinone.Default,
	New: func(ctx context.Context, cfg allinone.Config, deps service.Deps) (service.Runner, error) {
		return allinone.New(ctx, cfg, deps)
	},
}

func up(args []string, stdout, stderr io.Writer) int {
	return service.Main(upRole, args, stdout, stderr)
}
