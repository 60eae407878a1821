// Package postgres keeps the name ledger in PostgreSQL, where several replicas
// of the name server share it. Any replica may sequence: the lock on the state
// row puts them in order, and a replica frozen while it holds the lock loses it
// after two seconds (idle_in_transaction_session_timeout).
package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

//go:embed schema.sql
var schema string

const schemaVersion = 1

// session is set on every connection; see the package comment. The lock
// timeout is above the idle timeout, so that waiters outlive a frozen holder.
var session = map[string]string{
	"idle_in_transaction_session_timeout": "2000",
	"lock_timeout":                        "6000",
	"statement_timeout":                   "30000",
	"tcp_user_timeout":                    "10000",
	"application_name":                    "jirani-nameserver",
}

// connectTimeout bounds the attempt on one host, unless the DSN says
// otherwise: after a failover the first of several may be a dead machine that
// refuses nothing.
const connectTimeout = 3 * time.Second

// Store is one database.
type Store struct{ pool *pgxpool.Pool }

var _ store.Store = (*Store)(nil)

// Open connects and brings the schema up to date. The DSN is libpq's
// (key=value or URL), with pgxpool's pool_max_conns and its kin. With several
// hosts and target_session_attrs=read-write the store follows a failover; what
// was acknowledged outlives it if the standby is synchronous. Open does not
// make a ledger; see Init.
func Open(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	for k, v := range session {
		if _, set := cfg.ConnConfig.RuntimeParams[k]; !set {
			cfg.ConnConfig.RuntimeParams[k] = v
		}
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	cfg.MaxConns = max(cfg.MaxConns, 4) // writer, its catch-up, readers
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s := &Store{pool}
	if err := s.migrate(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// migrationLock is the advisory lock under which one replica migrates.
const migrationLock = 0x6a6e73 // "jns"

func (s *Store) migrate(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS ledger_schema (version integer NOT NULL)"); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM ledger_schema").Scan(&version); err != nil {
			return err
		}
		if version > schemaVersion {
			return fmt.Errorf("database has schema %d, this program knows %d", version, schemaVersion)
		}
		if version == schemaVersion {
			return nil
		}
		if _, err := tx.Exec(ctx, schema); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO ledger_schema VALUES ($1)", schemaVersion)
		return err
	})
	return wrap("migrate", err)
}

// Close closes every connection.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// wrap maps driver errors to the store's.
func wrap(op string, err error) error {
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return store.ErrNotFound
	case errors.As(err, &pe) && pe.Code == "53100": // disk_full
		return fmt.Errorf("postgres: %s: %w", op, store.ErrFull)
	case errors.As(err, &pe) && pe.Code == "22012": // division_by_zero: the state was not as read, see commit
		return store.ErrConflict
	}
	return fmt.Errorf("postgres: %s: %w", op, err)
}

const stateColumns = "origin, size, root, map_root, pub_size, pub_checkpoint, vkey, key_epoch"

func scanState(row pgx.Row) (store.State, error) {
	var st store.State
	var root, mapRoot []byte
	err := row.Scan(&st.Origin, &st.Size, &root, &mapRoot, &st.PubSize, &st.PubCheckpoint, &st.VKey, &st.KeyEpoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, store.ErrNoLedger
	}
	copy(st.Root[:], root)
	copy(st.MapRoot[:], mapRoot)
	return st, wrap("state", err)
}

// State implements store.Store.
func (s *Store) State(ctx context.Context) (store.State, error) {
	return scanState(s.pool.QueryRow(ctx, "SELECT "+stateColumns+" FROM ledger_state"))
}

// Entries implements store.Store.
func (s *Store) Entries(ctx context.Context, first, end int64, yield func(int64, []byte) error) error {
	if first >= end {
		return nil
	}
	rows, err := s.pool.Query(ctx, "SELECT idx, data FROM ledger_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx", first, end)
	if err != nil {
		return wrap("entries", err)
	}
	defer rows.Close()
	next := first
	var data pgtype.DriverBytes
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
	if err := rows.Err(); err != nil {
		return wrap("entries", err)
	}
	if next != end {
		return fmt.Errorf("postgres: entries: %w: %d of them end at %d", store.ErrNotFound, end, next)
	}
	return nil
}

// Evidence implements store.Store.
func (s *Store) Evidence(ctx context.Context, first, end int64, yield func(int64, ledger.Evidence) error) error {
	if first >= end {
		return nil
	}
	rows, err := s.pool.Query(ctx, "SELECT idx, pubkey, sig FROM ledger_evidence WHERE idx >= $1 AND idx < $2 ORDER BY idx", first, end)
	if err != nil {
		return wrap("evidence", err)
	}
	defer rows.Close()
	next := first
	var key, sig pgtype.DriverBytes
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
	err := s.pool.QueryRow(ctx, "SELECT data FROM ledger_tile WHERE level = $1 AND n = $2", level, n).Scan(&data)
	return data, wrap("tile", err)
}

// NameTaken implements store.Store.
func (s *Store) NameTaken(ctx context.Context, key, skeleton string) (bool, error) {
	var taken bool
	err := s.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM name WHERE key = $1) OR EXISTS (SELECT 1 FROM name WHERE skeleton = $2 AND $2 <> '')", key, skeleton).Scan(&taken)
	return taken, wrap("name", err)
}

// AddCosignature implements store.Store.
func (s *Store) AddCosignature(ctx context.Context, size int64, witness string, line []byte) error {
	_, err := s.pool.Exec(ctx, "INSERT INTO cosignature VALUES ($1, $2, $3) ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line", size, witness, line)
	return wrap("cosignature", err)
}

// Cosignatures implements store.Store.
func (s *Store) Cosignatures(ctx context.Context, size int64) ([][]byte, error) {
	rows, err := s.pool.Query(ctx, "SELECT line FROM cosignature WHERE size = $1 ORDER BY witness", size)
	if err != nil {
		return nil, wrap("cosignatures", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	return lines, wrap("cosignatures", err)
}
