package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
)

// Member is one named runner of a [Group].
type Member struct {
	Name   string // prefixes its errors; may be empty
	Runner Runner
}

// Group runs its members together: when one fails, all end.
type Group []Member

// Run runs every member until ctx is done or one fails, and returns once all have ended, with all their errors.
func (g Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(g))
	var wg sync.WaitGroup
	for i, m := range g {
		wg.Go(func() {
			if err := m.Runner.Run(ctx); err != nil {
				errs[i] = named(m.Name, err)
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func named(name string, err error) error {
	if name == "" || err == nil {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Reload reloads every member that is a [Reloader] and returns all their errors.
func (g Group) Reload() error {
	var errs []error
	for _, m := range g {
		if r, ok := m.Runner.(Reloader); ok {
			errs = append(errs, named(m.Name, r.Reload()))
		}
	}
	return errors.Join(errs...)
}

// OpsHandlers merges the pages of all members.
func (g Group) OpsHandlers() map[string]http.Handler {
	out := make(map[string]http.Handler)
	for _, m := range g {
		if h, ok := m.Runner.(OpsHandlers); ok {
			maps.Copy(out, h.OpsHandlers())
		}
	}
	return out
}

// Announce lists the lines of all members.
func (g Group) Announce() []string {
	var out []string
	for _, m := range g {
		if a, ok := m.Runner.(Announcer); ok {
			out = append(out, a.Announce()...)
		}
	}
	return out
}
