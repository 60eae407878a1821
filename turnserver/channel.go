package turnserver

import (
	"errors"
	"time"

	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/jirani/jirani/turnserver/policy"
	"github.com/pion/stun/v3"
)

// channelBind is RFC 8656 §12.2. It concerns one address, so that the policy can refuse it at once.
func (s *Server) channelBind(l link, r *request, id *identity, a *alloc) *failure {
	bad := &failure{stun.CodeBadRequest, refusedMalformed}
	forbidden := &failure{stun.CodeForbidden, refusedForbidden}
	switch {
	case a.tcp != nil:
		return forbidden // docs/protocols/turn-usage.md §4: the client carries on after 403
	case len(r.peers) != 1 || !s.validChannel(r.channel) || r.peers[0].Port() == 0:
		return bad
	}
	peer, now := r.peers[0], time.Now()
	a.mu.Lock()
	u := a.relayFor(peer.Addr())
	if u == nil {
		a.mu.Unlock()
		return &failure{stun.CodePeerAddrFamilyMismatch, refusedFamily}
	}
	if verdict := s.judge(peer.Addr()); verdict != policy.Allowed && (verdict != policy.Own || !s.relayedHere(peer, false)) {
		a.mu.Unlock()
		return forbidden
	}
	a.steer(now) // an expired binding may go now
	ch, err := a.channels.Bind(uint16(r.channel), peer, now)
	if err == nil {
		ch.Path.relay = u
		if !a.grant(peer.Addr(), now) {
			err = allocation.ErrTooManyChannels
		}
		a.steer(now)
	}
	a.mu.Unlock()
	switch {
	case errors.Is(err, allocation.ErrTooManyChannels):
		return &failure{stun.CodeInsufficientCapacity, refusedTooMany}
	case err != nil:
		return bad
	}
	l.reply(r.answer(stun.ClassSuccessResponse, id).seal())
	return nil
}

func (s *Server) validChannel(number int) bool {
	last := allocation.MaxChannel
	if s.cfg.Relay.LegacyChannels {
		last = allocation.MaxLegacyChannel
	}
	return number >= allocation.MinChannel && number <= last
}
