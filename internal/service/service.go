// Package service is the frame of every server program: flags, configuration, logger, metrics, operations listener, signals, and an
// orderly end. A role brings its configuration and a constructor; [Main] does the rest, the same way for all.
//
// Exit codes: 0 for an orderly end, 1 for a failure, 2 for misuse of the command line. SIGINT and SIGTERM drain and end, a second one
// ends at once; SIGHUP reloads what can be reloaded: certificates, credentials and the log level.
package service

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/health"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/ops"
	"github.com/prometheus/client_golang/prometheus"
)

// Runner is a built server. Run serves until ctx is done, drains, and returns once everything it began has ended.
type Runner interface {
	Run(ctx context.Context) error
}

// Reloader is a Runner that can take up changed files. On an error what was in force stays in force.
type Reloader interface {
	Reload() error
}

// OpsHandlers is a Runner with its own pages on the operations listener, by ServeMux pattern.
type OpsHandlers interface {
	OpsHandlers() map[string]http.Handler
}

// Announcer is a Runner that can say in one line each how to reach it, for the person who started it on a terminal.
type Announcer interface {
	Announce() []string
}

// Deps is what a role is given by its process.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Health  *health.Checks
}

// Role describes a server program. C is its configuration, a struct with yaml tags.
type Role[C config.Validator] struct {
	Program    string   // as it is called: jirani-bootstrap
	Name       string   // environment prefix and label: bootstrap
	Usage      string   // text of -help, written by hand, without the common flags
	DefaultOps string   // operations listener
	Default    func() C // complete and valid; the development mode
	New        func(ctx context.Context, cfg C, deps Deps) (Runner, error)
}

// File is a server's configuration file: the role's own keys at the top, and the sections that all servers have.
type File[C config.Validator] struct {
	Role C              `yaml:",inline"`
	Log  logging.Config `yaml:"log"`
	Ops  ops.Config     `yaml:"ops"`
}

// Defaults returns the file's content when nothing is said.
func (r Role[C]) Defaults() File[C] {
	return File[C]{Role: r.Default(), Log: logging.Default(), Ops: ops.Config{Listen: r.DefaultOps}}
}

// Validate implements config.Validator.
func (f File[C]) Validate() error {
	var p config.Problems
	p.Merge("", f.Role.Validate())
	p.Merge("log", f.Log.Validate())
	p.Merge("ops", f.Ops.Validate())
	return p.Err()
}
