package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
)

// tx is a transaction that holds the state row. It takes three round trips:
// begin and lock, claim, append and commit.
type tx struct {
	conn  *pgxpool.Conn
	state store.State
	done  bool
	abort func() error // rolls back, not bound to the caller's context, which may be over
	close func()       // ends the connection, likewise
}

// rollbackTimeout bounds the politeness towards a server that does not answer.
const rollbackTimeout = 2 * time.Second

// Begin implements store.Store.
func (s *Store) Begin(ctx context.Context) (store.Tx, error) {
	t, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if t.state.Origin == "" {
		t.Rollback()
		return nil, store.ErrNoLedger
	}
	return t, nil
}

func (s *Store) begin(ctx context.Context) (*tx, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, wrap("begin", err)
	}
	detached := context.WithoutCancel(ctx)
	t := &tx{conn: conn, abort: func() error {
		ctx, cancel := context.WithTimeout(detached, rollbackTimeout)
		defer cancel()
		_, err := conn.Exec(ctx, "ROLLBACK")
		return err
	}, close: func() {
		ctx, cancel := context.WithTimeout(detached, rollbackTimeout)
		defer cancel()
		_ = conn.Hijack().Close(ctx)
	}}
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue(sqlstore.SelectState + " FOR UPDATE")
	res := conn.SendBatch(ctx, b)
	_, err = res.Exec()
	if err == nil {
		t.state, err = sqlstore.ScanState(s.DB, res.QueryRow())
	}
	if closeErr := res.Close(); err == nil || errors.Is(err, store.ErrNoLedger) {
		err = wrap("begin", closeErr)
	}
	if err != nil {
		t.Rollback()
		return nil, err
	}
	return t, nil
}

// State implements store.Tx.
func (t *tx) State() store.State { return t.state }

// Rollback implements store.Tx. A connection that cannot roll back is closed,
// and the server ends its transaction.
func (t *tx) Rollback() {
	if t.done {
		return
	}
	t.done = true
	if t.conn.Conn().IsClosed() || t.abort() != nil {
		t.close()
		return
	}
	t.conn.Release()
}

// Claim implements store.Tx.
func (t *tx) Claim(ctx context.Context, now time.Time, names []store.Name) ([]store.Outcome, error) {
	out, err := sqlstore.Claim(now, names,
		func() ([]int64, error) { return t.insertNames(ctx, names) },
		func(query string, args ...any) (int64, error) {
			tag, err := t.conn.Exec(ctx, query, args...)
			return tag.RowsAffected(), err
		})
	return out, wrap("claim", err)
}

// insertNames returns the indexes of the names that were free.
func (t *tx) insertNames(ctx context.Context, names []store.Name) ([]int64, error) {
	keys, skeletons := make([]string, len(names)), make([]*string, len(names))
	addrs, indexes := make([][]byte, len(names)), make([]int64, len(names))
	for i, n := range names {
		keys[i], indexes[i] = n.Key, n.Index
		if n.Address != nil {
			addrs[i] = n.Address[:]
		}
		if n.Skeleton != "" {
			skeletons[i] = &n.Skeleton
		}
	}
	rows, err := t.conn.Query(ctx, `INSERT INTO name (key, skeleton, addr, idx)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[]) ON CONFLICT DO NOTHING RETURNING idx`, keys, skeletons, addrs, indexes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// Commit implements store.Tx.
func (t *tx) Commit(ctx context.Context, b store.Batch) error {
	q := &pgx.Batch{}
	if err := queueAppend(q, t.state.Size, b); err != nil {
		return err
	}
	q.Queue(sqlstore.UpdateState, append(sqlstore.StateArgs(b.Next), t.state.Size)...)
	// Nothing may be committed unless the row was as locked: divide by zero.
	q.Queue("SELECT 1 / count(*) FROM ledger_state WHERE size = $1 AND root = $2", b.Next.Size, b.Next.Root[:])
	return t.finish(ctx, q)
}

func (t *tx) finish(ctx context.Context, q *pgx.Batch) error {
	q.Queue("COMMIT")
	if err := t.conn.SendBatch(ctx, q).Close(); err != nil {
		return wrap("commit", err)
	}
	t.done = true
	t.conn.Release()
	return nil
}

// queueAppend adds the statements that write entries, evidence and tiles.
func queueAppend(q *pgx.Batch, first int64, b store.Batch) error {
	if err := sqlstore.Continues(first, b); err != nil {
		return err
	}
	q.Queue("INSERT INTO ledger_entry SELECT $1 + n - 1, data FROM unnest($2::bytea[]) WITH ORDINALITY AS e (data, n)", first, b.Entries)
	var at []int64
	var keys, sigs [][]byte
	for i, ev := range b.Evidence {
		if len(ev.PublicKey) > 0 {
			at, keys, sigs = append(at, first+int64(i)), append(keys, ev.PublicKey), append(sigs, ev.Signature)
		}
	}
	if len(at) > 0 {
		q.Queue("INSERT INTO ledger_evidence SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])", at, keys, sigs)
	}
	for _, tile := range b.Tiles {
		q.Queue("INSERT INTO ledger_tile VALUES ($1, $2, $3)", tile.Level, tile.N, tile.Data)
	}
	return nil
}

// Init implements store.Store.
func (s *Store) Init(ctx context.Context, b store.Batch) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if t.state.Origin != "" {
		return store.ErrExists
	}
	q := &pgx.Batch{}
	if err := queueAppend(q, 0, b); err != nil {
		return err
	}
	q.Queue(sqlstore.InsertState, sqlstore.StateArgs(b.Next)...)
	return t.finish(ctx, q)
}
