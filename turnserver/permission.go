package turnserver

import (
	"time"

	"github.com/pion/stun/v3"
)

// createPermission is RFC 8656 §10.2, but for its check of the policy, which is made when data flows: see the package comment.
func (s *Server) createPermission(l link, r *request, id *identity, a *alloc) *failure {
	if len(r.peers) == 0 {
		return &failure{stun.CodeBadRequest, refusedMalformed}
	}
	now := time.Now()
	a.mu.Lock()
	for _, p := range r.peers {
		if !a.hasFamily(p.Addr()) {
			a.mu.Unlock()
			return &failure{stun.CodePeerAddrFamilyMismatch, refusedFamily}
		}
	}
	granted := 0
	for _, p := range r.peers {
		if a.grant(p.Addr(), now) {
			granted++
		}
	}
	a.steer(now)
	a.mu.Unlock()
	if granted == 0 {
		return &failure{stun.CodeInsufficientCapacity, refusedTooMany}
	}
	l.reply(r.answer(stun.ClassSuccessResponse, id).seal())
	return nil
}
