package namecli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jirani/jirani/nameserver"
	"github.com/jirani/jirani/nameserver/store"
)

const inviteCreateUsage = `[-uses N] [-expires DURATION] [-note TEXT] [-config FILE] [-set KEY=VALUE] [-json]

makes an invite, for servers with policy.mode invite
The token is shown once; only its hash is kept. Whoever is invited enters the
server's address followed by /i/TOKEN as name server. -uses is how many names it
is good for (default 1), -expires such as 168h (default never).
`

// inviteAnswer shows an invite. Token and path are known when it is made only.
type inviteAnswer struct {
	Token     string     `json:"token,omitempty"`
	Path      string     `json:"path,omitempty"`
	Hash      string     `json:"hash"`
	UsesLeft  int        `json:"uses_left"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Note      string     `json:"note,omitempty"`
}

func answerOf(inv store.Invite) inviteAnswer {
	a := inviteAnswer{Hash: hex.EncodeToString(inv.TokenHash[:]), UsesLeft: inv.UsesLeft, Note: inv.Note}
	if !inv.ExpiresAt.IsZero() {
		t := inv.ExpiresAt.UTC()
		a.ExpiresAt = &t
	}
	return a
}

func inviteCreate(ctx context.Context, e *env) error {
	f := newFlags()
	uses, expires, note := f.Int("uses", 1, ""), f.Duration("expires", 0, ""), f.String("note", "", "")
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	if *uses < 1 || *expires < 0 {
		return fmt.Errorf("%w: -uses and -expires must be positive", errUsage)
	}
	// Clients lower-case the whole URL: only letters that survive it.
	token := lowerText()
	inv := store.Invite{TokenHash: sha256.Sum256([]byte(token)), UsesLeft: *uses, Note: *note}
	if *expires > 0 {
		inv.ExpiresAt = time.Now().Add(*expires).Truncate(time.Second)
	}
	return f.withStore(ctx, func(_ nameserver.Config, st store.Store) error {
		if err := st.CreateInvite(ctx, inv); err != nil {
			return err
		}
		a := answerOf(inv)
		a.Token, a.Path = token, "/i/"+token
		return f.show(e, a, func(w io.Writer) {
			fmt.Fprintf(w, "token  %s\npath   %s (after the server's address)\n", a.Token, a.Path)
		})
	})
}

// lowerText returns 128 random bits as lower-case letters and digits.
func lowerText() string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 26)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b)
}

const inviteRevokeUsage = `TOKEN|HASH [-config FILE] [-set KEY=VALUE] [-json]

revokes an invite; names registered with it stay
`

func inviteRevoke(ctx context.Context, e *env) error {
	f := newFlags()
	args, err := f.parse(e, 1)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(args[0]))
	if b, err := hex.DecodeString(args[0]); err == nil && len(b) == len(hash) {
		hash = [32]byte(b)
	}
	return f.withStore(ctx, func(_ nameserver.Config, st store.Store) error {
		if err := st.RevokeInvite(ctx, hash); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("no such invite: %w", err)
			}
			return err
		}
		return f.show(e, inviteAnswer{Hash: hex.EncodeToString(hash[:])}, func(w io.Writer) { fmt.Fprintln(w, "revoked") })
	})
}

const inviteListUsage = `[-config FILE] [-set KEY=VALUE] [-json]

lists the invites, spent ones included
`

func inviteList(ctx context.Context, e *env) error {
	f := newFlags()
	if _, err := f.parse(e, 0); err != nil {
		return err
	}
	return f.withStore(ctx, func(_ nameserver.Config, st store.Store) error {
		invites, err := st.ListInvites(ctx)
		if err != nil {
			return err
		}
		list := make([]inviteAnswer, len(invites))
		for i, inv := range invites {
			list[i] = answerOf(inv)
		}
		return f.show(e, list, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "HASH\tUSES LEFT\tEXPIRES\tNOTE")
			for _, a := range list {
				expires := "never"
				if a.ExpiresAt != nil {
					expires = a.ExpiresAt.Format(time.RFC3339)
				}
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", a.Hash, a.UsesLeft, expires, a.Note)
			}
			t.Flush()
		})
	})
}
