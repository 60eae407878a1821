// Package postgres keeps the name ledger in PostgreSQL, where several replicas
// of the name server share it. Any replica may sequence: the lock on the state
// row puts them in order, and a replica frozen while it holds the lock loses it
// after two seconds (idle_in_transaction_session_timeout).
package postgres

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/sqlstore"
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
type Store struct {
	sqlstore.Tables
	pool *pgxpool.Pool
}

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
	s := &Store{sqlstore.Tables{DB: db{pool}}, pool}
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
