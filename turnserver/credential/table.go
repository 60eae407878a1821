package credential

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	_ "modernc.org/sqlite"             // database/sql driver "sqlite"
)

const (
	foundFor   = 30 * time.Second // a changed password works within this time
	unknownFor = 3 * time.Second  // a new user works within this time
	maxCached  = 8192             // users; about 1 MiB
)

// Table is the user table of a database. Rows hold keys, not passwords. It is safe for concurrent use; the one who opened it closes it.
type Table struct {
	db       *sql.DB
	postgres bool

	mu    sync.Mutex // guards cache
	cache map[tableID]cachedKey
}

type tableID struct{ realm, user string }

type cachedKey struct {
	key   Key
	known bool
	until time.Time
}

// schema is understood by SQLite and PostgreSQL alike.
const schema = `CREATE TABLE IF NOT EXISTS turn_users (
	realm TEXT NOT NULL,
	name TEXT NOT NULL,
	key TEXT NOT NULL,
	PRIMARY KEY (realm, name))`

// OpenSQLite opens or creates a database file.
func OpenSQLite(ctx context.Context, path string) (*Table, error) {
	return open(ctx, "sqlite", "file:"+strings.ReplaceAll(path, "?", "%3f")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)")
}

// OpenPostgres opens a database by its URL. The role needs to read turn_users and, for the user commands, to create and write it.
func OpenPostgres(ctx context.Context, url string) (*Table, error) {
	return open(ctx, "pgx", url)
}

func open(ctx context.Context, driver, source string) (*Table, error) {
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, fmt.Errorf("credential: open user table: %w", err)
	}
	db.SetMaxOpenConns(8)
	t := &Table{db: db, postgres: driver == "pgx", cache: make(map[tableID]cachedKey)}
	if err := t.prepare(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("credential: open user table: %w", err)
	}
	return t, nil
}

// prepare creates the table unless it is there already, so that a role without the right to create can use an existing one.
func (t *Table) prepare(ctx context.Context) error {
	if _, err := t.db.ExecContext(ctx, `SELECT 1 FROM turn_users WHERE 1 = 0`); err == nil {
		return nil
	}
	_, err := t.db.ExecContext(ctx, schema)
	return err
}

// Close closes the database.
func (t *Table) Close() error { return t.db.Close() }

// Ping tells whether the database answers.
func (t *Table) Ping(ctx context.Context) error { return t.db.PingContext(ctx) }

// query replaces the question marks of SQLite by PostgreSQL's numbered places.
func (t *Table) query(q string) string {
	if !t.postgres {
		return q
	}
	for i := 1; strings.Contains(q, "?"); i++ {
		q = strings.Replace(q, "?", fmt.Sprintf("$%d", i), 1)
	}
	return q
}

// ErrExists is returned by Add for a user that is already there.
var ErrExists = errors.New("credential: user exists")

// ErrNoUser is returned by Delete for a user that is not there.
var ErrNoUser = errors.New("credential: no such user")

// Add creates a user.
func (t *Table) Add(ctx context.Context, realm, user string, key Key) error {
	res, err := t.db.ExecContext(ctx, t.query(`INSERT INTO turn_users (realm, name, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`),
		realm, user, key.Hex())
	return affected(res, err, "add user", ErrExists)
}

// Delete removes a user.
func (t *Table) Delete(ctx context.Context, realm, user string) error {
	res, err := t.db.ExecContext(ctx, t.query(`DELETE FROM turn_users WHERE realm = ? AND name = ?`), realm, user)
	return affected(res, err, "delete user", ErrNoUser)
}

func affected(res sql.Result, err error, what string, none error) error {
	if err != nil {
		return fmt.Errorf("credential: %s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return none
	}
	return nil
}

// List calls yield with the name of every user of realm in order, until yield returns false.
func (t *Table) List(ctx context.Context, realm string, yield func(user string) bool) error {
	rows, err := t.db.QueryContext(ctx, t.query(`SELECT name FROM turn_users WHERE realm = ? ORDER BY name`), realm)
	if err != nil {
		return fmt.Errorf("credential: list users: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return fmt.Errorf("credential: list users: %w", err)
		}
		if !yield(name) {
			return nil
		}
	}
	return rows.Err()
}

func (t *Table) cached(realm, user string, now time.Time) (Key, Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.cache[tableID{realm, user}]
	switch {
	case !ok || now.After(c.until):
		return Key{}, Wait
	case !c.known:
		return Key{}, Unknown
	}
	return c.key, Found
}

func (t *Table) fetch(ctx context.Context, realm, user string, now time.Time) error {
	var digits string
	row := t.db.QueryRowContext(ctx, t.query(`SELECT key FROM turn_users WHERE realm = ? AND name = ?`), realm, user)
	err := row.Scan(&digits)
	if errors.Is(err, sql.ErrNoRows) {
		t.remember(tableID{realm, user}, cachedKey{until: now.Add(unknownFor)}, now)
		return nil
	}
	if err != nil {
		return fmt.Errorf("credential: look up user: %w", err)
	}
	key, err := ParseKey(digits)
	if err != nil {
		return fmt.Errorf("credential: look up user: row of %q: %w", user, err)
	}
	t.remember(tableID{realm, user}, cachedKey{key: key, known: true, until: now.Add(foundFor)}, now)
	return nil
}

// remember keeps the cache within its bound: when it is full the stale entries go, and of the fresh ones any quarter, so that the work is
// shared by many calls.
func (t *Table) remember(id tableID, c cachedKey, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.cache[id]; !known && len(t.cache) >= maxCached {
		for old, entry := range t.cache {
			if now.After(entry.until) || len(t.cache) > maxCached*3/4 {
				delete(t.cache, old)
			}
		}
	}
	t.cache[id] = c
}
