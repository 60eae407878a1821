package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
)

// db is the pool as sqlstore.DB. The pool prepares statements by itself.
type db struct{ pool *pgxpool.Pool }

// Query implements sqlstore.DB.
func (d db) Query(ctx context.Context, query string, args ...any) (sqlstore.Rows, error) {
	return d.pool.Query(ctx, query, args...)
}

// QueryRow implements sqlstore.DB.
func (d db) QueryRow(ctx context.Context, query string, args ...any) sqlstore.Row {
	return d.pool.QueryRow(ctx, query, args...)
}

// Exec implements sqlstore.DB.
func (d db) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := d.pool.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

// Wrap implements sqlstore.DB.
func (d db) Wrap(op string, err error) error { return wrap(op, err) }

func wrap(op string, err error) error {
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case errors.As(err, &pe) && pe.Code == "53100": // disk_full
		return fmt.Errorf("postgres: %s: %w", op, store.ErrFull)
	case errors.As(err, &pe) && pe.Code == "22012": // division_by_zero: the state was not as read, see commit
		return store.ErrConflict
	}
	return fmt.Errorf("postgres: %s: %w", op, err)
}
