// Package sqlstore is what the engines of package store have in common: the
// statements that both databases understand, how their rows read, and what a
// claim on names comes to. An engine brings the driver, the schema, and its
// transactions, where the two databases differ.
//
// Statements number their parameters as PostgreSQL does ($1, $2).
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jirani/jirani/nameserver/store"
)

// DB runs statements, each in a transaction of its own. Its methods are safe
// for concurrent use. A row that is not there is sql.ErrNoRows, or wraps it.
type DB interface {
	Query(ctx context.Context, query string, args ...any) (Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) Row
	// Exec returns the number of rows affected.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Wrap says what failed, with the store's error in place of the
	// driver's where it has one. It passes nil on.
	Wrap(op string, err error) error
}

// Row is the first row of a result.
type Row interface{ Scan(dest ...any) error }

// Rows is a result; close it.
type Rows interface {
	Row
	Next() bool
	Err() error
	Close()
}

// Tables reads and writes all that needs no hold on the log. It implements
// those methods of store.Store.
type Tables struct{ DB DB }

// SelectState reads the state row; add " FOR UPDATE" to lock it.
const SelectState = "SELECT " + stateColumns + " FROM ledger_state"

// InsertState enters StateArgs.
const InsertState = "INSERT INTO ledger_state (log, " + stateColumns + ") VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)"

// UpdateState replaces the row by StateArgs, if its size is still $9.
const UpdateState = "UPDATE ledger_state SET origin = $1, size = $2, root = $3, map_root = $4, pub_size = $5, pub_checkpoint = $6, vkey = $7, key_epoch = $8 WHERE size = $9"

const stateColumns = "origin, size, root, map_root, pub_size, pub_checkpoint, vkey, key_epoch"

// StateArgs are the columns of st in the order of the statements above.
func StateArgs(st store.State) []any {
	checkpoint := st.PubCheckpoint
	if checkpoint == nil {
		checkpoint = []byte{} // not NULL
	}
	return []any{st.Origin, st.Size, st.Root[:], st.MapRoot[:], st.PubSize, checkpoint, st.VKey, st.KeyEpoch}
}

// ScanState reads the state row, or store.ErrNoLedger if there is none.
func ScanState(db DB, row Row) (store.State, error) {
	var st store.State
	var root, mapRoot []byte
	err := row.Scan(&st.Origin, &st.Size, &root, &mapRoot, &st.PubSize, &st.PubCheckpoint, &st.VKey, &st.KeyEpoch)
	if errors.Is(err, sql.ErrNoRows) {
		return st, store.ErrNoLedger
	}
	copy(st.Root[:], root)
	copy(st.MapRoot[:], mapRoot)
	return st, db.Wrap("state", err)
}

// rawBytes is a column that is not copied: it is the driver's until the next
// row. Both interfaces below give it that.
type rawBytes []byte

// Scan implements sql.Scanner.
func (r *rawBytes) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok {
		return fmt.Errorf("sqlstore: %T is not bytes", src)
	}
	*r = b
	return nil
}

// ScanBytes implements pgtype.BytesScanner.
func (r *rawBytes) ScanBytes(b []byte) error {
	*r = b
	return nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db DB, op, query string, args []any, scan func(Row) (T, error)) ([]T, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, db.Wrap(op, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, db.Wrap(op, err)
		}
		out = append(out, v)
	}
	return out, db.Wrap(op, rows.Err())
}
