package nameserver

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jirani/jirani/nameserver/mirror"
)

// Bounds of what mirrors can make their writer remember and show. A mirror asks
// for the checkpoint every few seconds, so one not heard of for followerGone
// follows no more.
const (
	maxFollowers    = 64
	maxFollowerName = 64 // bytes
	followerGone    = time.Minute
)

// Follower is a mirror that told its name when it asked for the checkpoint.
// Nothing of it is verified.
type Follower struct {
	Name   string    `json:"name"`
	Size   int64     `json:"size"` // entries it had when it asked
	SeenAt time.Time `json:"seen_at"`
}

// followers are the mirrors heard of lately. It is safe for concurrent use.
type followers struct {
	mu     sync.Mutex
	byName map[string]Follower
}

// note remembers a mirror. Over the limit those that have gone make room, and
// without any the new one is left out.
func (f *followers) note(m Follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName = map[string]Follower{}
	}
	if _, known := f.byName[m.Name]; !known && len(f.byName) >= maxFollowers {
		f.forget(m.SeenAt)
		if len(f.byName) >= maxFollowers {
			return
		}
	}
	f.byName[m.Name] = m
}

// forget drops those that have gone. The caller holds f.mu.
func (f *followers) forget(now time.Time) {
	for name, m := range f.byName {
		if now.Sub(m.SeenAt) > followerGone {
			delete(f.byName, name)
		}
	}
}

// list returns those that follow now, by name.
func (f *followers) list(now time.Time) []Follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(now)
	out := make([]Follower, 0, len(f.byName))
	for _, m := range f.byName {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Follower) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// noting remembers the mirrors among those who ask for the checkpoint: who
// tells a name and may mirror.
func (s *Server) noting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get(mirror.NameHeader)
		if name != "" && len(name) <= maxFollowerName && s.mayMirror(r) {
			size, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
			if err != nil || size < 0 {
				size = 0 // its first question
			}
			s.followers.note(Follower{Name: name, Size: size, SeenAt: s.now().UTC()})
		}
		next.ServeHTTP(w, r)
	})
}
