// Package health collects what must hold for a service to be worth sending clients to.
//
// A check answers for the service, not for the process: a node that has lost the network fails its check although it runs.
package health

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// checkTimeout bounds one check: a probe that hangs must not hang its caller.
const checkTimeout = 2 * time.Second

// Check returns nil while its condition holds, otherwise an error that says what is missing, for an operator to read. It must honour
// its context and be safe for concurrent use.
type Check func(ctx context.Context) error

// Checks is a set of named checks. The zero value is ready to use; all methods are safe for concurrent use.
type Checks struct {
	mu    sync.Mutex
	names []string // in order of registration
	funcs map[string]Check
}

// Add registers a check under a name such as "storage". A second check of the same name is the caller's bug and panics.
func (c *Checks) Add(name string, check Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.funcs[name]; ok {
		panic("health: second check named " + name)
	}
	if c.funcs == nil {
		c.funcs = make(map[string]Check)
	}
	c.names = append(c.names, name)
	c.funcs[name] = check
}

// Result is the outcome of one check.
type Result struct {
	Name string
	Err  error // nil: the condition holds
}

// Run runs all checks at once, each for at most two seconds, and returns their results in the order of registration.
func (c *Checks) Run(ctx context.Context) []Result {
	c.mu.Lock()
	out := make([]Result, len(c.names))
	funcs := make([]Check, len(c.names))
	for i, name := range c.names {
		out[i].Name, funcs[i] = name, c.funcs[name]
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, f := range funcs {
		wg.Go(func() { out[i].Err = run(ctx, f) })
	}
	wg.Wait()
	return out
}

func run(ctx context.Context, f Check) error {
	done := make(chan error, 1)
	go func() { done <- f(ctx) }() // ends when f does; f honours ctx
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer within %v", checkTimeout)
	}
}
