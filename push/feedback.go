package push

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jirani/jirani/push/dispatch"
)

// DeadToken is the news that a device is gone.
type DeadToken struct {
	Cursor   string    `json:"cursor"` // pass the last one seen as "after"
	Platform string    `json:"platform"`
	Token    string    `json:"token"`
	Topic    string    `json:"topic,omitempty"`
	Reason   string    `json:"reason"`  // unregistered, bad_token, mismatch, forbidden, …
	DiedAt   time.Time `json:"died_at"` // a token confirmed later than this is alive again
}

// DeadTokens is the answer of GET /v1/dead-tokens.
type DeadTokens struct {
	DeadTokens []DeadToken `json:"dead_tokens"`
	// Next is the cursor to ask with next time.
	Next string `json:"next"`
}

// feedback keeps the newest deaths. Cursors are "<start of the process>-<number>"; one of an earlier process, or of
// what has been dropped, means from the beginning.
type feedback struct {
	keep  int
	epoch string

	mu      sync.Mutex
	list    []DeadToken // ring
	first   int         // number of the oldest, from 1
	next    int         // number of the next
	changed chan struct{}
}

func newFeedback(keep int, now time.Time) *feedback {
	return &feedback{keep: keep, epoch: strconv.FormatInt(now.UnixMilli(), 36), first: 1, next: 1, changed: make(chan struct{})}
}

func (f *feedback) add(d dispatch.Death) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := DeadToken{Cursor: f.cursor(f.next), Platform: d.Target.Platform.String(), Token: string(d.Target.Token),
		Topic: d.Target.Topic, Reason: string(d.Reason), DiedAt: d.At.UTC()}
	if len(f.list) < f.keep {
		f.list = append(f.list, t)
	} else {
		f.list[(f.next-1)%f.keep] = t
		f.first++
	}
	f.next++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feedback) cursor(n int) string { return fmt.Sprintf("%s-%d", f.epoch, n) }

// after returns at most limit deaths that followed a cursor, and a channel that is closed at the next one.
func (f *feedback) after(cursor string, limit int) (DeadTokens, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.first - 1
	if epoch, num, ok := strings.Cut(cursor, "-"); ok && epoch == f.epoch {
		if v, err := strconv.Atoi(num); err == nil && v > n && v < f.next {
			n = v
		}
	}
	out := DeadTokens{DeadTokens: []DeadToken{}}
	for ; n+1 < f.next && len(out.DeadTokens) < limit; n++ {
		out.DeadTokens = append(out.DeadTokens, f.list[n%f.keep])
	}
	out.Next = f.cursor(n)
	return out, f.changed
}
