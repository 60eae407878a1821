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

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

//go:embed schema.sql
var schema string

const schemaVersion = 1

// Store is one database file.
type Store struct {
	write *sql.DB // one connection
	read  *sql.DB

	// What requests ask for all the time, prepared on read.
	state, tile, reserved *sql.Stmt
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
	s := &Store{}
	if s.write, err = sql.Open("sqlite", dsn(path, opt, "immediate")); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(path, opt, "deferred")); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: %w", err), s.write.Close())
	}
	s.read.SetMaxOpenConns(8)
	s.read.SetMaxIdleConns(8)
	if err = s.migrate(ctx); err == nil {
		err = s.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		sql  string
	}{
		{&s.state, "SELECT " + stateColumns + " FROM ledger_state"},
		{&s.tile, "SELECT data FROM ledger_tile WHERE level = ? AND n = ?"},
		{&s.reserved, "SELECT key, note FROM reservation WHERE key = ?"},
	} {
		var err error
		if *p.stmt, err = s.read.PrepareContext(ctx, p.sql); err != nil {
			return wrap("prepare", err)
		}
	}
	return nil
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

func (s *Store) migrate(ctx context.Context) error {
	tx, err := s.write.BeginTx(ctx, nil)
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
func (s *Store) Close() error { return errors.Join(s.write.Close(), s.read.Close()) }

// wrap maps driver errors to the store's.
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

const stateColumns = "origin, size, root, map_root, pub_size, pub_checkpoint, vkey, key_epoch"

func scanState(row *sql.Row) (store.State, error) {
	var st store.State
	var root, mapRoot []byte
	err := row.Scan(&st.Origin, &st.Size, &root, &mapRoot, &st.PubSize, &st.PubCheckpoint, &st.VKey, &st.KeyEpoch)
	if errors.Is(err, sql.ErrNoRows) {
		return st, store.ErrNoLedger
	}
	copy(st.Root[:], root)
	copy(st.MapRoot[:], mapRoot)
	return st, wrap("state", err)
}

// State implements store.Store.
func (s *Store) State(ctx context.Context) (store.State, error) {
	return scanState(s.state.QueryRowContext(ctx))
}

// Entries implements store.Store.
func (s *Store) Entries(ctx context.Context, first, end int64, yield func(int64, []byte) error) error {
	if first >= end {
		return nil
	}
	rows, err := s.read.QueryContext(ctx, "SELECT idx, data FROM ledger_entry WHERE idx >= ? AND idx < ? ORDER BY idx", first, end)
	if err != nil {
		return wrap("entries", err)
	}
	defer rows.Close()
	next := first
	var data sql.RawBytes
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx, &data); err != nil {
			return wrap("entries", err)
		}
		if idx != next {
			break
		}
		if err := yield(idx, data); err != nil {
			return err
		}
		next++
	}
	return checkRun("entries", next, end, rows.Err())
}

func checkRun(what string, next, end int64, err error) error {
	if err == nil && next != end {
		err = fmt.Errorf("%w: %d of them end at %d", store.ErrNotFound, end, next)
	}
	return wrap(what, err)
}

// Evidence implements store.Store.
func (s *Store) Evidence(ctx context.Context, first, end int64, yield func(int64, ledger.Evidence) error) error {
	if first >= end {
		return nil
	}
	rows, err := s.read.QueryContext(ctx, "SELECT idx, pubkey, sig FROM ledger_evidence WHERE idx >= ? AND idx < ? ORDER BY idx", first, end)
	if err != nil {
		return wrap("evidence", err)
	}
	defer rows.Close()
	next := first
	var key, sig sql.RawBytes
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx, &key, &sig); err != nil {
			return wrap("evidence", err)
		}
		for ; next < idx; next++ { // entries without evidence have no row
			if err := yield(next, ledger.Evidence{}); err != nil {
				return err
			}
		}
		if err := yield(idx, ledger.Evidence{PublicKey: key, Signature: sig}); err != nil {
			return err
		}
		next++
	}
	for ; next < end && rows.Err() == nil; next++ {
		if err := yield(next, ledger.Evidence{}); err != nil {
			return err
		}
	}
	return wrap("evidence", rows.Err())
}

// Tile implements store.Store.
func (s *Store) Tile(ctx context.Context, level int, n int64) ([]byte, error) {
	var data []byte
	err := s.tile.QueryRowContext(ctx, level, n).Scan(&data)
	return data, wrap("tile", err)
}

// NameTaken implements store.Store.
func (s *Store) NameTaken(ctx context.Context, key, skeleton string) (bool, error) {
	var taken bool
	err := s.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM name WHERE key = ?1) OR EXISTS (SELECT 1 FROM name WHERE skeleton = ?2 AND ?2 <> '')", key, skeleton).Scan(&taken)
	return taken, wrap("name", err)
}

// AddCosignature implements store.Store.
func (s *Store) AddCosignature(ctx context.Context, size int64, witness string, line []byte) error {
	_, err := s.write.ExecContext(ctx, "INSERT INTO cosignature VALUES (?, ?, ?) ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line", size, witness, line)
	return wrap("cosignature", err)
}

// Cosignatures implements store.Store.
func (s *Store) Cosignatures(ctx context.Context, size int64) ([][]byte, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT line FROM cosignature WHERE size = ? ORDER BY witness", size)
	if err != nil {
		return nil, wrap("cosignatures", err)
	}
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var line []byte
		if err := rows.Scan(&line); err != nil {
			return nil, wrap("cosignatures", err)
		}
		out = append(out, line)
	}
	return out, wrap("cosignatures", rows.Err())
}
