package credential

import (
	"context"
	"time"
)

// Status is the outcome of a look-up.
type Status uint8

// The outcomes.
const (
	Unknown Status = iota // no such user
	Found
	Expired // a time-limited user name whose time is over
	Wait    // a source has to be asked that may block: call Fetch
	Failed  // a source could not be asked
)

// Realm is one realm and its sources of credentials. Its fields do not change once it is in use; it is safe for concurrent use.
type Realm struct {
	Name    string
	Users   Users         // may be nil
	Secrets SharedSecrets // may be nil
	Table   *Table        // may be nil
}

// Find appends to dst the keys that user may have and says how it went. It never blocks. Several keys come back only while shared
// secrets rotate; the caller tries each.
func (r *Realm) Find(dst []Key, user string, now time.Time) ([]Key, Status) {
	if key, ok := r.Users[user]; ok {
		return append(dst, key), Found
	}
	if len(r.Secrets) > 0 {
		if expiry, ok := Expiry(user); ok {
			if now.After(expiry) {
				return dst, Expired
			}
			return r.Secrets.keys(dst, user, r.Name), Found
		}
	}
	if r.Table == nil {
		return dst, Unknown
	}
	key, status := r.Table.cached(r.Name, user, now)
	if status == Found {
		dst = append(dst, key)
	}
	return dst, status
}

// Fetch asks the table for a user of whom Find said Wait; the answer is there for the next Find. It blocks as long as the database does,
// or until ctx is done.
func (r *Realm) Fetch(ctx context.Context, user string, now time.Time) error {
	if r.Table == nil {
		return nil
	}
	return r.Table.fetch(ctx, r.Name, user, now)
}
