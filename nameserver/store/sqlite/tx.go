package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
)

// tx is a transaction on the one writing connection.
type tx struct {
	db       *db
	conn     *sql.Conn
	state    store.State
	done     bool
	rollback func() error // not bound to the caller's context, which may be over
}

// Begin implements store.Store.
func (s *Store) Begin(ctx context.Context) (store.Tx, error) {
	t, err := s.db.begin(ctx)
	if err != nil {
		return nil, err
	}
	if t.state, err = t.readState(ctx); err != nil {
		t.Rollback()
		return nil, err
	}
	return t, nil
}

func (d *db) begin(ctx context.Context) (*tx, error) {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return nil, wrap("begin", err)
	}
	detached := context.WithoutCancel(ctx)
	t := &tx{db: d, conn: conn, rollback: func() error {
		_, err := conn.ExecContext(detached, "ROLLBACK")
		return err
	}}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Rollback()
		return nil, wrap("begin", err)
	}
	return t, nil
}

func (t *tx) readState(ctx context.Context) (store.State, error) {
	return sqlstore.ScanState(t.db, t.conn.QueryRowContext(ctx, sqlstore.SelectState))
}

// exec runs a statement of package sqlstore.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return affected(t.conn.ExecContext(ctx, numbered(query), args...))
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
	out, err := sqlstore.Claim(now, names,
		func() ([]int64, error) { return t.insertNames(ctx, names) },
		func(query string, args ...any) (int64, error) { return t.exec(ctx, query, args...) })
	return out, wrap("claim", err)
}

// insertNames returns the indexes of the names that were free.
func (t *tx) insertNames(ctx context.Context, names []store.Name) ([]int64, error) {
	args := make([]any, 0, 4*len(names))
	for _, n := range names {
		args = append(args, n.Key, nullString(n.Skeleton), nullAddress(n.Address), n.Index)
	}
	won := make([]int64, 0, len(names))
	err := inChunks("INSERT INTO name (key, skeleton, addr, idx) VALUES ", "(?,?,?,?)", " ON CONFLICT DO NOTHING RETURNING idx", 4, args, func(q string, args []any) error {
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
			won = append(won, idx)
		}
		return rows.Err()
	})
	return won, err
}

// Commit implements store.Tx.
func (t *tx) Commit(ctx context.Context, b store.Batch) error {
	if err := t.append(ctx, b); err != nil {
		return err
	}
	n, err := t.exec(ctx, sqlstore.UpdateState, append(sqlstore.StateArgs(b.Next), t.state.Size)...)
	if err != nil {
		return wrap("commit", err)
	}
	if n != 1 {
		return store.ErrConflict
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
	if err := sqlstore.Continues(first, b); err != nil {
		return err
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
	t, err := s.db.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if _, err := t.readState(ctx); !errors.Is(err, store.ErrNoLedger) {
		return errors.Join(store.ErrExists, err)
	}
	if err := t.append(ctx, b); err != nil {
		return err
	}
	if _, err := t.exec(ctx, sqlstore.InsertState, sqlstore.StateArgs(b.Next)...); err != nil {
		return wrap("init", err)
	}
	return t.commit(ctx)
}
