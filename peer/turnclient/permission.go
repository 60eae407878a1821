package turnclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"
)

const (
	maxPermissions = 256
	peersAtOnce    = 32              // XOR-PEER-ADDRESS attributes of one request: 768 bytes, so that it stays in one packet
	renewAfter     = 4 * time.Minute // permissions live for five (RFC 8656 §9), whether made by CreatePermission or ChannelBind
)

// CreatePermission lets these peers send to the relayed address, and has it renewed as long as the allocation lives (RFC 8656 §10). Ports
// do not matter. All go in one request; if the server forbids that, for one of them perhaps, each is asked for alone. Then those that are
// not in the error have a permission. One that the server later refuses to renew is gone: writing to its peer says ErrNoPermission.
func (a *allocation) CreatePermission(ctx context.Context, peers ...netip.AddrPort) error {
	peers = slices.Clone(peers)
	for i, peer := range peers {
		peers[i] = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	}
	fresh, err := a.hold(peers)
	if err != nil {
		return err
	}
	refused, err := a.permit(ctx, peers)
	a.mu.Lock()
	for _, peer := range refused {
		if slices.Contains(fresh, peer.Addr()) {
			delete(a.permissions, peer.Addr())
		}
	}
	begin := !a.permitting && len(a.permissions) > 0
	a.permitting = a.permitting || begin
	a.mu.Unlock()
	if begin {
		a.assume(&duty{time.Now().Add(renewAfter), a.renewPermissions})
	}
	return err
}

// hold notes permissions before they are asked for: what comes right behind the server's answer is for them. It returns the new ones.
func (a *allocation) hold(peers []netip.AddrPort) (fresh []netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, peer := range peers {
		if _, ok := a.permissions[peer.Addr()]; !ok && !slices.Contains(fresh, peer.Addr()) {
			fresh = append(fresh, peer.Addr())
		}
	}
	if len(a.permissions)+len(fresh) > maxPermissions {
		return nil, fmt.Errorf("%w permissions", ErrTooMany)
	}
	for _, addr := range fresh {
		a.permissions[addr] = struct{}{}
	}
	return fresh, nil
}

// permit asks for permissions and returns who has none: those that the server refuses, and all that had not been asked for when an error
// ended the asking.
func (a *allocation) permit(ctx context.Context, peers []netip.AddrPort) (refused []netip.AddrPort, err error) {
	var refusals []error
	for i := 0; i < len(peers); i += peersAtOnce {
		chunk := peers[i:min(i+peersAtOnce, len(peers))]
		err := a.askPermission(ctx, chunk)
		if len(chunk) > 1 && hasCode(err, stun.CodeForbidden, stun.CodePeerAddrFamilyMismatch) {
			var some []netip.AddrPort
			some, err = a.permitSingly(ctx, chunk)
			refused = append(refused, some...)
		} else if err != nil {
			refused = append(refused, chunk...)
		}
		if fatal(err) {
			return append(refused, peers[i:]...), err
		}
		refusals = append(refusals, err)
	}
	return refused, errors.Join(refusals...)
}

func (a *allocation) permitSingly(ctx context.Context, peers []netip.AddrPort) (refused []netip.AddrPort, err error) {
	var refusals []error
	for i, peer := range peers {
		err := a.askPermission(ctx, peers[i:i+1])
		if fatal(err) {
			return peers, err
		}
		if err != nil {
			refused = append(refused, peer)
			refusals = append(refusals, fmt.Errorf("%v: %w", peer, err))
		}
	}
	return refused, errors.Join(refusals...)
}

func (a *allocation) askPermission(ctx context.Context, peers []netip.AddrPort) error {
	attrs := make([]attribute, len(peers))
	for i, peer := range peers {
		attrs[i] = peerAttr(peer)
	}
	_, err := a.c.do(ctx, a.c.roundTrip, stun.MethodCreatePermission, attrs...)
	return err
}

// renewPermissions renews all at once. Those that the server now refuses are forgotten.
func (a *allocation) renewPermissions(ctx context.Context) (time.Duration, error) {
	a.mu.Lock()
	addrs := slices.SortedFunc(maps.Keys(a.permissions), netip.Addr.Compare)
	a.mu.Unlock()
	peers := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		peers[i] = netip.AddrPortFrom(addr, 0)
	}
	refused, err := a.permit(ctx, peers)
	if fatal(err) {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, peer := range refused {
		delete(a.permissions, peer.Addr())
	}
	return renewAfter, nil
}
