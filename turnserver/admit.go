package turnserver

import (
	"time"

	"github.com/jirani/jirani/turnserver/allocation"
	"github.com/pion/stun/v3"
)

// admit counts a new allocation against every quota, or says which one it would pass. What it takes, ended gives back.
func (s *Server) admit(a *alloc) *failure {
	if s.draining.Load() {
		return &failure{stun.CodeInsufficientCapacity, refusedDraining}
	}
	user, place := userID{a.id.realm, a.id.user}, site(a.tuple.client.Addr())
	if !s.perUser.Take(user) {
		return &failure{stun.CodeAllocQuotaReached, refusedQuotaUser}
	}
	if !s.perSite.Take(place) {
		s.perUser.Give(user)
		return &failure{stun.CodeAllocQuotaReached, refusedQuotaAddress}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.cfg.Limits.Allocations > 0 && len(s.allocs) >= s.cfg.Limits.Allocations {
		s.perUser.Give(user)
		s.perSite.Give(place)
		return &failure{stun.CodeInsufficientCapacity, refusedQuotaTotal}
	}
	s.numbered++
	a.number = s.numbered
	s.allocs[a.number] = a
	a.shape = s.shapeFor(user)
	s.metrics.began(a.tuple.transport)
	return nil
}

// shapeFor returns the buckets of a new allocation. The caller holds mu.
func (s *Server) shapeFor(user userID) shape {
	now := time.Now()
	sh := s.total
	sh.up[0] = allocation.NewBucket(int64(s.cfg.Limits.RatePerAllocation), now)
	sh.down[0] = allocation.NewBucket(int64(s.cfg.Limits.RatePerAllocation), now)
	if rate := int64(s.cfg.Limits.RatePerUser); rate > 0 {
		u := s.users[user]
		if u == nil {
			u = &userShape{up: allocation.NewBucket(rate, now), down: allocation.NewBucket(rate, now)}
			s.users[user] = u
		}
		u.count++
		sh.up[1], sh.down[1] = u.up, u.down
	}
	return sh
}

// ended gives back what admit took.
func (s *Server) ended(a *alloc) {
	user := userID{a.id.realm, a.id.user}
	s.mu.Lock()
	_, known := s.allocs[a.number]
	delete(s.allocs, a.number)
	if u := s.users[user]; known && u != nil {
		if u.count--; u.count == 0 {
			delete(s.users, user)
		}
	}
	s.mu.Unlock()
	if !known {
		return
	}
	s.perUser.Give(user)
	s.perSite.Give(site(a.tuple.client.Addr()))
	a.report(s.metrics)
	s.metrics.ended(a.tuple.transport)
}
