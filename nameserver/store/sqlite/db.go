package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
)

// db is the file under its two pools. It implements sqlstore.DB.
type db struct {
	write *sql.DB // one connection
	read  *sql.DB

	queries sync.Map // of the text to its *sql.Stmt on read; there are a dozen
}

// numbered turns PostgreSQL's parameters into SQLite's.
func numbered(query string) string { return strings.ReplaceAll(query, "$", "?") }

// prepared returns the statement on the readers, prepared when first asked for.
func (d *db) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := d.queries.Load(query); ok {
		return stmt.(*sql.Stmt), nil
	}
	stmt, err := d.read.PrepareContext(ctx, numbered(query))
	if err != nil {
		return nil, err
	}
	if first, raced := d.queries.LoadOrStore(query, stmt); raced {
		_ = stmt.Close()
		return first.(*sql.Stmt), nil
	}
	return stmt, nil
}

// Query implements sqlstore.DB.
func (d *db) Query(ctx context.Context, query string, args ...any) (sqlstore.Rows, error) {
	stmt, err := d.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	return result{rows}, nil
}

// QueryRow implements sqlstore.DB.
func (d *db) QueryRow(ctx context.Context, query string, args ...any) sqlstore.Row {
	stmt, err := d.prepared(ctx, query)
	if err != nil {
		return failed{err}
	}
	return stmt.QueryRowContext(ctx, args...)
}

// Exec implements sqlstore.DB.
func (d *db) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return affected(d.write.ExecContext(ctx, numbered(query), args...))
}

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Wrap implements sqlstore.DB.
func (d *db) Wrap(op string, err error) error { return wrap(op, err) }

func (d *db) close() error { return errors.Join(d.write.Close(), d.read.Close()) }

// result is sql.Rows whose Close says nothing that Err does not.
type result struct{ *sql.Rows }

func (r result) Close() { _ = r.Rows.Close() }

// failed is the row of a query that could not be asked.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func wrap(op string, err error) error {
	var se *sqlite.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case errors.As(err, &se) && se.Code()&0xff == sqlite3.SQLITE_FULL:
		return fmt.Errorf("sqlite: %s: %w", op, store.ErrFull)
	}
	return fmt.Errorf("sqlite: %s: %w", op, err)
}
