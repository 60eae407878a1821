package push

import (
	"context"

	"github.com/jirani/jirani/internal/service"
)

// Role is the push gateway as a program.
var Role = service.Role[Config]{
	Program:    "jirani-push",
	Name:       "push",
	Usage:      usage,
	DefaultOps: "127.0.0.1:9605",
	Default:    Default,
	New: func(_ context.Context, cfg Config, deps service.Deps) (service.Runner, error) {
		return New(cfg, Deps{Log: deps.Log, Metrics: deps.Metrics, Health: deps.Health})
	},
}

const usage = `
Usage: jirani-push [options]
       jirani-push send [options]     send one push by hand; jirani-push send -help

Carries hints from DHT proxies to FCM, APNs and UnifiedPush. Without a file it
listens on 127.0.0.1:8088 with UnifiedPush only. To try everything against
simulated providers:

    jirani-push -set provider=fake -set distributor.enabled=true
`
