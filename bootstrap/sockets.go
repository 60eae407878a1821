package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"syscall"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/udpio"
)

// maxAutoQueues is how many sockets an address gets by itself at most, one for every two processors: one answers some hundred thousand
// requests a second, and each more splits the batches, so that on two processors a second one cost a quarter more for every answer.
const maxAutoQueues = 4

// listen binds every address, several sockets each. On failure none stays open.
func listen(cfg Config, log *slog.Logger) (conns []*udpio.Conn, err error) {
	var skipped error
	for i, addr := range cfg.Listen {
		group, err := udpio.ListenGroup(context.Background(), addr, queues(cfg), udpio.Config{ // binding waits for nothing
			V6Only: true, PacketInfo: addr.Addr().IsUnspecified(), ReadBuffer: int(cfg.ReadBuffer), WriteBuffer: int(cfg.ReadBuffer),
		})
		switch {
		case err == nil:
			conns = append(conns, group...)
		case noIPv6(addr, err):
			log.Warn("address left out, the machine does not have it", logging.KeyListen, addr, logging.KeyErr, err)
			skipped = err
		default:
			closeAll(conns)
			return nil, listenProblem(i, addr, err)
		}
	}
	if len(conns) == 0 {
		return nil, fmt.Errorf("bootstrap: no address to listen on: %w", skipped)
	}
	return conns, nil
}

func queues(cfg Config) int {
	switch {
	case runtime.GOOS != "linux":
		return 1
	case cfg.Queues > 0:
		return cfg.Queues
	}
	return min(max(runtime.GOMAXPROCS(0)/2, 1), maxAutoQueues)
}

// noIPv6 reports whether binding failed because the machine has no IPv6, or not this address of it.
func noIPv6(addr netip.AddrPort, err error) bool {
	return addr.Addr().Is6() && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL))
}

func closeAll(conns []*udpio.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// listenError is a listen address that cannot be bound. It names the key, and keeps the cause for hints.
type listenError struct {
	config.Problem
	cause error
}

func (e *listenError) Error() string { return fmt.Sprintf("bootstrap: %s: %v", e.Key, e.cause) }
func (e *listenError) Unwrap() error { return e.cause }

func listenProblem(i int, addr netip.AddrPort, err error) error {
	return &listenError{config.Problem{Key: at("listen", i), Text: addr.String()}, err}
}
