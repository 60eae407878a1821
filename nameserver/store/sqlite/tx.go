package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// tx is a transaction on the one writing connection.
type tx struct {
	conn     *sql.Conn
	state    store.State
	done     bool
	rollback func() error // not bound to the caller's context, which may be over
}

// Begin implements store.Store.
func (s *Store) Begin(ctx context.Context) (store.Tx, error) {
	t, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if t.state, err = scanState(t.conn.QueryRowContext(ctx, "SELECT "+stateColumns+" FROM ledger_state")); err != nil {
		t.Rollback()
		return nil, err
	}
	return t, nil
}

func (s *Store) begin(ctx context.Context) (*tx, error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, wrap("begin", err)
	}
	detached := context.WithoutCancel(ctx)
	t := &tx{conn: conn, rollback: func() error {
		_, err := conn.ExecContext(detached, "ROLLBACK")
		return err
	}}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Rollback()
		return nil, wrap("begin", err)
	}
	return t, nil
}

// State implements store.Tx.
func (t *tx) State() store.State { return t.state }

// Rollback implements store.Tx. A connection that cannot roll back is thrown
// away, and its transaction with it.
func (t *tx) Rollback() {
	if t.done {
		return
	}
	t.done = true
	if t.rollback() != nil {
		_ = t.conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	_ = t.conn.Close()
}

// Claim implements store.Tx.
func (t *tx) Claim(ctx context.Context, now time.Time, names []store.Name) ([]store.Outcome, error) {
	out := make([]store.Outcome, len(names))
	args := make([]any, 0, 4*len(names))
	byIndex := make(map[int64]int, len(names))
	for i, n := range names {
		out[i] = store.Taken
		if n.Address == nil {
			out[i] = store.Won // a burnt name needs no row of its own if it has one
		}
		byIndex[n.Index] = i
		args = append(args, n.Key, nullString(n.Skeleton), nullAddress(n.Address), n.Index)
	}
	err := inChunks("INSERT INTO name (key, skeleton, addr, idx) VALUES ", "(?,?,?,?)", " ON CONFLICT DO NOTHING RETURNING idx", 4, args,
		func(q string, args []any) error { return t.claimed(ctx, q, args, byIndex, out) })
	if err != nil {
		return nil, wrap("claim", err)
	}
	for i, n := range names {
		if out[i] == store.Won && n.Invite != nil {
			if out[i], err = t.spend(ctx, now, n.Invite); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (t *tx) claimed(ctx context.Context, q string, args []any, byIndex map[int64]int, out []store.Outcome) error {
	rows, err := t.conn.QueryContext(ctx, q, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx); err != nil {
			return err
		}
		out[byIndex[idx]] = store.Won
	}
	return rows.Err()
}

func (t *tx) spend(ctx context.Context, now time.Time, hash []byte) (store.Outcome, error) {
	res, err := t.conn.ExecContext(ctx, "UPDATE invite SET uses_left = uses_left - 1 WHERE token_hash = ? AND uses_left > 0 AND (expires = 0 OR expires > ?)", hash, now.Unix())
	if err != nil {
		return 0, wrap("invite", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return store.NoInvite, wrap("invite", err)
	}
	return store.Won, nil
}

// Commit implements store.Tx.
func (t *tx) Commit(ctx context.Context, b store.Batch) error {
	if err := t.append(ctx, b); err != nil {
		return err
	}
	n := b.Next
	res, err := t.conn.ExecContext(ctx, "UPDATE ledger_state SET size = ?, root = ?, map_root = ?, pub_size = ?, pub_checkpoint = ?, vkey = ?, key_epoch = ? WHERE size = ?",
		n.Size, n.Root[:], n.MapRoot[:], n.PubSize, nonNil(n.PubCheckpoint), n.VKey, n.KeyEpoch, t.state.Size)
	if err != nil {
		return wrap("commit", err)
	}
	if rows, err := res.RowsAffected(); err != nil || rows != 1 {
		return errors.Join(store.ErrConflict, err)
	}
	return t.commit(ctx)
}

func (t *tx) commit(ctx context.Context) error {
	if _, err := t.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return wrap("commit", err)
	}
	t.done = true
	return wrap("commit", t.conn.Close())
}

// append writes entries, evidence and tiles.
func (t *tx) append(ctx context.Context, b store.Batch) error {
	first := t.state.Size
	if first+int64(len(b.Entries)) != b.Next.Size || len(b.Entries) != len(b.Evidence) {
		return fmt.Errorf("sqlite: batch of %d entries and %d evidences does not lead from %d to %d", len(b.Entries), len(b.Evidence), first, b.Next.Size)
	}
	var entries, evidence, tiles []any
	for i, e := range b.Entries {
		entries = append(entries, first+int64(i), e)
		if ev := b.Evidence[i]; len(ev.PublicKey) > 0 {
			evidence = append(evidence, first+int64(i), ev.PublicKey, ev.Signature)
		}
	}
	for _, tile := range b.Tiles {
		tiles = append(tiles, tile.Level, tile.N, tile.Data)
	}
	exec := func(q string, args []any) error {
		_, err := t.conn.ExecContext(ctx, q, args...)
		return err
	}
	return wrap("append", errors.Join(
		inChunks("INSERT INTO ledger_entry VALUES ", "(?,?)", "", 2, entries, exec),
		inChunks("INSERT INTO ledger_evidence VALUES ", "(?,?,?)", "", 3, evidence, exec),
		inChunks("INSERT INTO ledger_tile VALUES ", "(?,?,?)", "", 3, tiles, exec),
	))
}

// rowsPerStatement is where longer statements stop being faster.
const rowsPerStatement = 64

// inChunks runs an INSERT of many rows as few statements.
func inChunks(head, row, tail string, width int, args []any, run func(string, []any) error) error {
	for len(args) > 0 {
		n := min(len(args)/width, rowsPerStatement)
		q := head + strings.Repeat(row+",", n-1) + row + tail
		if err := run(q, args[:n*width]); err != nil {
			return err
		}
		args = args[n*width:]
	}
	return nil
}

func nullString(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nullAddress(a *ledger.Address) any {
	if a == nil {
		return nil
	}
	return a[:]
}

// Init implements store.Store.
func (s *Store) Init(ctx context.Context, b store.Batch) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if _, err := scanState(t.conn.QueryRowContext(ctx, "SELECT "+stateColumns+" FROM ledger_state")); !errors.Is(err, store.ErrNoLedger) {
		return errors.Join(store.ErrExists, err)
	}
	if err := t.append(ctx, b); err != nil {
		return err
	}
	n := b.Next
	if _, err := t.conn.ExecContext(ctx, "INSERT INTO ledger_state (log, "+stateColumns+") VALUES (1,?,?,?,?,?,?,?,?)",
		n.Origin, n.Size, n.Root[:], n.MapRoot[:], n.PubSize, nonNil(n.PubCheckpoint), n.VKey, n.KeyEpoch); err != nil {
		return wrap("init", err)
	}
	return t.commit(ctx)
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
