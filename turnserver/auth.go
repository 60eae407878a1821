package turnserver

import (
	"context"
	"time"

	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/turnserver/credential"
	"github.com/jirani/jirani/turnserver/relay"
	"github.com/pion/stun/v3"
)

const (
	maxLookups    = 64              // user table queries at once; requests beyond are dropped and come again
	lookupTimeout = 2 * time.Second // a client gives up after some seconds
)

// link is the way to one client: a 5-tuple and what is known of it. reply may be called from any goroutine.
type link interface {
	reply(b []byte)
	realm() string // offered in challenges
	fiveTuple() fiveTuple
	allocation() *alloc
	// adopt makes a the allocation of this 5-tuple, unless it has one.
	adopt(a *alloc) bool
	// disown forgets a, which has ended.
	disown(a *alloc)
	// attach has a relayed transport address read, detach closes it.
	attach(u *udpRelay) error
	detach(u *udpRelay)
	// socket is what a datagram client is answered from, nil for others.
	socket() *relay.Socket
}

// handle answers one message that is not channel data. It does not block.
func (s *Server) handle(l link, b []byte) {
	r := parseRequest(b)
	if r == nil {
		s.metrics.refused(refusedMalformed)
		return
	}
	switch r.msg.Type.Class {
	case stun.ClassIndication:
		if r.msg.Type.Method == stun.MethodSend {
			s.sendIndication(l, r)
		}
	case stun.ClassRequest:
		s.metrics.request(r.msg.Type.Method)
		s.request(l, r)
	}
}

func (s *Server) request(l link, r *request) {
	if !s.guarded(l, r) {
		return
	}
	switch r.msg.Type.Method {
	case stun.MethodBinding:
		s.binding(l, r)
	case stun.MethodAllocate, stun.MethodRefresh, stun.MethodCreatePermission, stun.MethodChannelBind, stun.MethodConnect,
		stun.MethodConnectionBind:
		s.authenticate(l, r, false)
	default:
		s.refuse(l, r, nil, failure{stun.CodeBadRequest, refusedUnknownMethod})
	}
}

// guarded reports whether the request may be answered: those that anybody could have sent in another's name are, at a bounded rate.
func (s *Server) guarded(l link, r *request) bool {
	if r.integrity && r.msg.Type.Method != stun.MethodBinding && s.nonces.Valid(r.nonce, time.Now()) {
		return true // the sender has received our nonce
	}
	t := l.fiveTuple()
	if t.transport != transportUDP || s.guard.allow(t.client.Addr(), time.Now()) {
		return true
	}
	s.metrics.refused(refusedRate)
	return false
}

// binding is RFC 8489 §6.3.1, without credentials.
func (s *Server) binding(l link, r *request) {
	if len(r.unknown) > 0 {
		s.refuse(l, r, nil, failure{stun.CodeUnknownAttribute, refusedAttribute})
		return
	}
	l.reply(r.answer(stun.ClassSuccessResponse, nil).address(stun.AttrXORMappedAddress, l.fiveTuple().client).seal())
}

// authenticate is RFC 8489 §9.2.4. asked says that the user table has been asked already.
func (s *Server) authenticate(l link, r *request, asked bool) {
	now := time.Now()
	switch {
	case !r.integrity:
		s.refuse(l, r, nil, failure{stun.CodeUnauthorized, refusedNoCredentials})
		return
	case r.username == nil || r.realm == nil || r.nonce == nil || r.malformed:
		s.refuse(l, r, nil, failure{stun.CodeBadRequest, refusedMalformed})
		return
	case !s.nonces.Valid(r.nonce, now):
		s.refuse(l, r, nil, failure{stun.CodeStaleNonce, refusedStaleNonce})
		return
	}
	id, status := s.identify(l, r, now)
	switch status {
	case credential.Found:
		s.dispatch(l, r, id)
	case credential.Wait:
		s.lookUp(l, r, asked)
	case credential.Expired:
		s.refuse(l, r, nil, failure{stun.CodeUnauthorized, refusedExpired})
	default:
		s.refuse(l, r, nil, failure{stun.CodeUnauthorized, refusedCredentials})
	}
}

// identify finds the key that r was made with. An unknown user costs as much as a wrong password.
func (s *Server) identify(l link, r *request, now time.Time) (*identity, credential.Status) {
	var keys [4]credential.Key
	id := &identity{user: string(r.username), realm: string(r.realm)}
	status := credential.Unknown
	var found []credential.Key
	if realm := s.realms.Load().byName[id.realm]; realm != nil {
		found, status = realm.Find(keys[:0], id.user, now)
	}
	if status == credential.Expired {
		// A time-limited name lets its holder begin until then; what was begun goes on.
		if a := l.allocation(); a != nil && a.id.user == id.user && a.id.realm == id.realm {
			found, status = append(found, a.id.key), credential.Found
		}
	}
	if status == credential.Wait {
		return nil, status
	}
	if len(found) == 0 {
		_ = stun.MessageIntegrity(keys[0][:]).Check(r.msg)
		return nil, status
	}
	for _, key := range found {
		if stun.MessageIntegrity(key[:]).Check(r.msg) == nil {
			id.key = key
			return id, credential.Found
		}
	}
	return nil, credential.Unknown
}

// lookUp asks the user table in a goroutine of its own, which ends with the query, and takes the request up again.
func (s *Server) lookUp(l link, r *request, asked bool) {
	realm := s.realms.Load().byName[string(r.realm)]
	if asked || realm == nil {
		s.refuse(l, r, nil, failure{stun.CodeServerError, refusedUserTable})
		return
	}
	select {
	case s.lookups <- struct{}{}:
	default:
		s.metrics.refused(refusedUserTable)
		return
	}
	if !s.begin() {
		<-s.lookups
		return
	}
	go func() {
		defer s.background.Done()
		defer func() { <-s.lookups }()
		ctx, cancel := context.WithTimeout(s.life, lookupTimeout)
		defer cancel()
		if err := realm.Fetch(ctx, string(r.username), time.Now()); err != nil {
			s.log.Warn("user table does not answer", logging.KeyErr, err)
		}
		s.authenticate(l, r, true)
	}()
}

// dispatch runs the handler of an authenticated request.
func (s *Server) dispatch(l link, r *request, id *identity) {
	if len(r.unknown) > 0 {
		s.refuse(l, r, id, failure{stun.CodeUnknownAttribute, refusedAttribute})
		return
	}
	var f *failure
	switch r.msg.Type.Method {
	case stun.MethodAllocate:
		f = s.allocate(l, r, id)
	case stun.MethodConnectionBind:
		f = s.connectionBind(l, r, id)
	default:
		f = s.onAllocation(l, r, id)
	}
	if f != nil {
		s.refuse(l, r, id, *f)
	}
}

// onAllocation runs a request that needs the 5-tuple's allocation and its user (RFC 8656 §5).
func (s *Server) onAllocation(l link, r *request, id *identity) *failure {
	a := l.allocation()
	if a == nil {
		return &failure{stun.CodeAllocMismatch, refusedMismatch}
	}
	if a.id.user != id.user || a.id.realm != id.realm {
		return &failure{stun.CodeWrongCredentials, refusedUser}
	}
	if r.malformed {
		return &failure{stun.CodeBadRequest, refusedMalformed}
	}
	switch r.msg.Type.Method {
	case stun.MethodRefresh:
		return s.refresh(l, r, id, a)
	case stun.MethodCreatePermission:
		return s.createPermission(l, r, id, a)
	case stun.MethodChannelBind:
		return s.channelBind(l, r, id, a)
	default:
		return s.connect(l, r, id, a)
	}
}
