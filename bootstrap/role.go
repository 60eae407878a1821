package bootstrap

import (
	"context"

	"github.com/jirani/jirani/internal/service"
)

// Role is the program jirani-bootstrap.
var Role = service.Role[Config]{
	Program:    "jirani-bootstrap",
	Name:       "bootstrap",
	Usage:      usage,
	DefaultOps: "127.0.0.1:9601",
	Default:    Default,
	New: func(_ context.Context, cfg Config, deps service.Deps) (service.Runner, error) {
		return New(cfg, Deps{deps.Log, deps.Metrics, deps.Health})
	},
}

const usage = `
jirani-bootstrap serves as an entry point of an OpenDHT network.

Without a file it answers on loopback, port 4222, and keeps its state under ./jirani-data/bootstrap:

    jirani-bootstrap
    dhtnode -b 127.0.0.1:4222

On a server:

    jirani-bootstrap -set 'listen=[0.0.0.0:4222, "[::]:4222"]' -set state_file=/var/lib/jirani/bootstrap/state.msgpack
`
