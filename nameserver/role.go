package nameserver

import (
	"context"

	"github.com/jirani/jirani/internal/service"
)

// Role is the name server as a program.
var Role = service.Role[Config]{
	Program:    "jirani-nameserver",
	Name:       "nameserver",
	Usage:      usage,
	DefaultOps: "127.0.0.1:9603",
	Default:    Default,
	New: func(ctx context.Context, cfg Config, deps service.Deps) (service.Runner, error) {
		return New(ctx, cfg, Deps{Log: deps.Log, Metrics: deps.Metrics, Health: deps.Health})
	},
}

const usage = `
Usage: jirani-nameserver [options]

Serves Jami's names. Without a file it serves on 127.0.0.1:8081, open to
everybody on this machine, with its state under jirani-data/nameserver.
`
