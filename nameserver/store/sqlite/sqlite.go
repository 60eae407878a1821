// Package sqlite keeps the name ledger in one SQLite file, with write-ahead
// log and synchronous=FULL: what is committed survives a crash of process and
// machine at any instant.
//
// One writer at a time holds the log, across processes (BEGIN IMMEDIATE), so
// that the command line can work on the file of a running server. Readers see
// the last commit and never wait.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
)

//go:embed schema.sql
var schema string

const schemaVersion = 1

// Store is one database file.
type Store struct {
	sqlstore.Tables
	db *db
}

var _ store.Store = (*Store)(nil)

// Options for tests; the zero value is right.
type Options struct {
	// MaxPages bounds the file in pages of 4 KiB, to play a full disk.
	MaxPages int
}

// Open opens or creates the file at path, readable by its owner only. It does
// not make a ledger; see Init.
func Open(ctx context.Context, path string, opt Options) (*Store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	f.Close()
	d := &db{}
	if d.write, err = sql.Open("sqlite", dsn(path, opt, "immediate")); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	d.write.SetMaxOpenConns(1)
	if d.read, err = sql.Open("sqlite", dsn(path, opt, "deferred")); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", err), d.write.Close())
	}
	d.read.SetMaxOpenConns(8)
	d.read.SetMaxIdleConns(8)
	if err := d.migrate(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return &Store{sqlstore.Tables{DB: d}, d}, nil
}

func dsn(path string, opt Options, txlock string) string {
	q := url.Values{"_txlock": {txlock}}
	for _, p := range []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "cache_size(-16384)", "wal_autocheckpoint(4000)"} {
		q.Add("_pragma", p)
	}
	if opt.MaxPages > 0 {
		q.Add("_pragma", fmt.Sprintf("max_page_count(%d)", opt.MaxPages))
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func (d *db) migrate(ctx context.Context) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlite: migrate: %w", err)
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("sqlite: migrate: %w", err)
	}
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("sqlite: file has schema %d, this program knows %d", version, schemaVersion)
	}
	if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
		return fmt.Errorf("sqlite: migrate: %w", err)
	}
	return tx.Commit()
}

// Close closes the file.
func (s *Store) Close() error { return s.db.close() }
