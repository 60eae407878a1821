package turnserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/kernelpath"
	"github.com/jirani/jirani/turnserver/policy"
)

// kernelLease is how long the kernel goes on relaying when the sweep stalls that renews it.
const kernelLease = 3 * sweepEvery

// kernelRetry is how long a channel that the kernel could not relay stays in user space.
const kernelRetry = 30 * time.Second

// kernelState is what became of Relay.KernelPath, for a metric's label and the operations listener.
type kernelState string

const (
	kernelOff         kernelState = "off"
	kernelActive      kernelState = "active"
	kernelLimits      kernelState = "limits" // bandwidth limits are obeyed in user space
	kernelPrivilege   kernelState = "no_privilege"
	kernelUnsupported kernelState = "unsupported"
)

var kernelStates = []kernelState{kernelOff, kernelActive, kernelLimits, kernelPrivilege, kernelUnsupported}

// kernel is the optional data path in the kernel. It does not change once the server is open.
type kernel struct {
	path   *kernelpath.Path // nil unless the state is active
	state  kernelState
	reason string        // what stood in the way
	up     atomic.Uint64 // packets
	down   atomic.Uint64 // packets
}

// openKernel loads the path, if it is wanted and can be.
func (s *Server) openKernel() error {
	k := &s.kernel
	err := k.open(s.cfg)
	s.metrics.kernel[k.state].Set(1)
	switch {
	case err != nil && s.cfg.Relay.KernelPath == "require":
		return fmt.Errorf("turnserver: relay.kernel_path: %w", err)
	case k.state == kernelActive:
		s.log.Info("relaying in the kernel", "interfaces", k.path.Interfaces())
	case k.state != kernelOff:
		s.log.Warn("not relaying in the kernel", "state", string(k.state), "reason", k.reason)
	}
	return nil
}

func (k *kernel) open(cfg Config) error {
	if cfg.Relay.KernelPath == "off" {
		k.state = kernelOff
		return nil
	}
	if cfg.Limits.shaped() {
		k.state, k.reason = kernelLimits, "limits.rate_per_allocation, rate_per_user and rate_total are obeyed in user space"
		return nil // Validate has refused "require"
	}
	path, err := kernelpath.Open()
	if err == nil {
		if err = path.Follow(); err != nil {
			path.Close()
		}
	}
	switch {
	case err == nil:
		k.state, k.path = kernelActive, path
		k.renew()
	case errors.Is(err, os.ErrPermission):
		k.state, k.reason = kernelPrivilege, err.Error()
	default:
		k.state, k.reason = kernelUnsupported, err.Error()
	}
	return err
}

func (k *kernel) close() {
	if k.path != nil {
		k.path.Close()
	}
}

func (k *kernel) renew() {
	if k.path != nil {
		k.path.Renew(kernelLease)
	}
}

// follow attaches the path to interfaces that have come.
func (k *kernel) follow(log *slog.Logger) {
	if k.path == nil {
		return
	}
	if err := k.path.Follow(); err != nil {
		log.Warn("an interface is not relayed from in the kernel", logging.KeyErr, err)
	}
}

// wants reports whether the path takes datagrams of an address before its sockets do. It wants them one by one, not joined.
func (k *kernel) wants(local netip.Addr) bool { return k.path != nil && local.Is4() }

// steer has the kernel relay the channels that it may, as long as it may, and no others. It is called after every change of the allocation
// and in every sweep. The caller holds mu.
func (a *alloc) steer(now time.Time) {
	k := &a.srv.kernel
	if k.path == nil || a.tuple.transport != transportUDP {
		return
	}
	for _, ch := range a.channels.All() {
		until, flow := a.kernelUntil(ch), ch.Path.flow
		switch {
		case !now.Before(until):
			a.unsteer(&ch.Path, now)
		case flow == nil && now.Before(ch.Path.retry):
		case flow == nil:
			flow, err := k.path.Carry(kernelpath.Channel{Client: a.tuple.client, Server: a.tuple.server, Relayed: ch.Path.relay.sock.LocalAddr(),
				Peer: ch.Peer, Number: ch.Number}, until)
			if err != nil { // no Ethernet on the way, mostly: user space relays it
				ch.Path.retry = now.Add(kernelRetry)
				continue
			}
			ch.Path.flow = flow
		case flow.Until(until) != nil:
			a.unsteer(&ch.Path, now)
		}
	}
}

// kernelUntil is the time until which the kernel may relay a channel by itself: as long as allocation, binding and permission live, and
// never to or from this host, whose packets it does not see. The caller holds mu.
func (a *alloc) kernelUntil(ch *allocation.Channel[path]) (until time.Time) {
	own := a.srv.here.Load().own
	_, ownPeer := own[ch.Peer.Addr()]
	_, ownClient := own[a.tuple.client.Addr()]
	verdict, _ := a.perms.Check(ch.Peer.Addr(), time.Time{})
	if a.closed || a.udp[0] == nil || ch.Path.relay != a.udp[0] || !a.tuple.client.Addr().Is4() || ownPeer || ownClient || verdict != policy.Allowed {
		return until
	}
	until = a.perms.ExpiresAt(ch.Peer.Addr())
	for _, t := range []time.Time{a.expiresAt, ch.ExpiresAt} {
		if t.Before(until) {
			until = t
		}
	}
	return until
}

// unsteer takes a channel back from the kernel. The caller holds mu.
func (a *alloc) unsteer(p *path, now time.Time) {
	if p.flow != nil {
		a.addKernel(p.flow.Drop())
		p.flow, p.retry = nil, now.Add(kernelRetry)
	}
}

// countKernel counts what the kernel has relayed since the last call, and has flows that are in use follow the routing table. The caller
// holds mu.
func (a *alloc) countKernel() {
	for _, ch := range a.channels.All() {
		flow := ch.Path.flow
		if flow == nil {
			continue
		}
		up, down := flow.Take()
		a.addKernel(up, down)
		if up.Packets+down.Packets > 0 && flow.Reroute() != nil {
			a.unsteer(&ch.Path, time.Now())
		}
	}
}

func (a *alloc) addKernel(up, down kernelpath.Traffic) {
	a.up.packets, a.up.bytes = a.up.packets+up.Packets, a.up.bytes+up.Bytes
	a.down.packets, a.down.bytes = a.down.packets+down.Packets, a.down.bytes+down.Bytes
	a.srv.kernel.up.Add(up.Packets)
	a.srv.kernel.down.Add(down.Packets)
}

// KernelPath is the answer of GET /v1/kernel_path.
type KernelPath struct {
	State       string   `json:"state"`
	Reason      string   `json:"reason"` // empty while active or off
	Interfaces  []string `json:"interfaces"`
	Channels    int      `json:"channels"`
	PacketsUp   uint64   `json:"packets_up"`
	PacketsDown uint64   `json:"packets_down"`
}

func (s *Server) getKernelPath(w http.ResponseWriter, _ *http.Request) {
	k := &s.kernel
	page := KernelPath{State: string(k.state), Reason: k.reason, Interfaces: []string{}, PacketsUp: k.up.Load(), PacketsDown: k.down.Load()}
	if k.path != nil {
		page.Interfaces, page.Channels = append(page.Interfaces, k.path.Interfaces()...), k.path.Flows()/2
	}
	httpapi.WriteJSON(w, http.StatusOK, page)
}
