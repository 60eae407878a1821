package sqlstore

import (
	"fmt"
	"time"

	"github.com/jirani/jirani/nameserver/store"
)

// Claim is the part of store.Tx that engines share: insert tries to add the
// rows of names and returns the indexes of those it added; then exec spends
// the invites of the names that won.
func Claim(now time.Time, names []store.Name, insert func() ([]int64, error), exec func(query string, args ...any) (int64, error)) ([]store.Outcome, error) {
	won, err := insert()
	if err != nil {
		return nil, err
	}
	added := make(map[int64]bool, len(won))
	for _, idx := range won {
		added[idx] = true
	}
	out := make([]store.Outcome, len(names))
	for i, n := range names {
		switch {
		case n.Address != nil && !added[n.Index]: // a burnt name needs no row of its own if it has one
			out[i] = store.Taken
		case n.Invite != nil:
			if out[i], err = spend(now, n.Invite, exec); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func spend(now time.Time, hash []byte, exec func(query string, args ...any) (int64, error)) (store.Outcome, error) {
	n, err := exec("UPDATE invite SET uses_left = uses_left - 1 WHERE token_hash = $1 AND uses_left > 0 AND (expires = 0 OR expires > $2)", hash, now.Unix())
	if err == nil && n != 1 {
		return store.NoInvite, nil
	}
	return store.Won, err
}

// Continues returns an error unless the batch leads from size to its next state.
func Continues(size int64, b store.Batch) error {
	if size+int64(len(b.Entries)) != b.Next.Size || len(b.Entries) != len(b.Evidence) {
		return fmt.Errorf("sqlstore: batch of %d entries and %d evidences does not lead from %d to %d", len(b.Entries), len(b.Evidence), size, b.Next.Size)
	}
	return nil
}
