package turnserver

import (
	"time"

	"github.com/pion/stun/v3"
)

// refresh is RFC 8656 §8.2.
func (s *Server) refresh(l link, r *request, id *identity, a *alloc) *failure {
	var zeroed int
	if r.family >= 0 {
		a.mu.Lock()
		have := r.family >= familyIPv4 && r.family <= familyIPv6 && (a.udp[r.family-familyIPv4] != nil ||
			a.tcp != nil && familyOf(a.tcp.host.local) == r.family)
		both := a.udp[0] != nil && a.udp[1] != nil
		a.mu.Unlock()
		if !have {
			return &failure{stun.CodePeerAddrFamilyMismatch, refusedFamily}
		}
		if both && r.lifetime == 0 {
			zeroed = r.family
		}
	}
	lifetime := s.lifetime(r)
	switch {
	case zeroed != 0:
		a.endFamily(zeroed)
		lifetime = 0
	case r.lifetime == 0:
		lifetime = 0
		a.end()
	default:
		now := time.Now()
		a.mu.Lock()
		a.expiresAt = now.Add(lifetime)
		a.steer(now)
		a.mu.Unlock()
	}
	l.reply(r.answer(stun.ClassSuccessResponse, id).lifetime(lifetime).seal())
	return nil
}
