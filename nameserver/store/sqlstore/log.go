package sqlstore

import (
	"context"
	"fmt"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// State implements store.Store.
func (t Tables) State(ctx context.Context) (store.State, error) {
	return ScanState(t.DB, t.DB.QueryRow(ctx, SelectState))
}

// Entries implements store.Store.
func (t Tables) Entries(ctx context.Context, first, end int64, yield func(int64, []byte) error) error {
	if first >= end {
		return nil
	}
	rows, err := t.DB.Query(ctx, "SELECT idx, data FROM ledger_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx", first, end)
	if err != nil {
		return t.DB.Wrap("entries", err)
	}
	defer rows.Close()
	next := first
	var data rawBytes
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx, &data); err != nil {
			return t.DB.Wrap("entries", err)
		}
		if idx != next {
			break
		}
		if err := yield(idx, data); err != nil {
			return err
		}
		next++
	}
	err = rows.Err()
	if err == nil && next != end {
		err = fmt.Errorf("%w: %d of them end at %d", store.ErrNotFound, end, next)
	}
	return t.DB.Wrap("entries", err)
}

// Evidence implements store.Store.
func (t Tables) Evidence(ctx context.Context, first, end int64, yield func(int64, ledger.Evidence) error) error {
	if first >= end {
		return nil
	}
	rows, err := t.DB.Query(ctx, "SELECT idx, pubkey, sig FROM ledger_evidence WHERE idx >= $1 AND idx < $2 ORDER BY idx", first, end)
	if err != nil {
		return t.DB.Wrap("evidence", err)
	}
	defer rows.Close()
	next := first
	without := func(until int64) error { // entries without evidence have no row
		for ; next < until; next++ {
			if err := yield(next, ledger.Evidence{}); err != nil {
				return err
			}
		}
		return nil
	}
	var key, sig rawBytes
	for rows.Next() {
		var idx int64
		if err := rows.Scan(&idx, &key, &sig); err != nil {
			return t.DB.Wrap("evidence", err)
		}
		if err := without(idx); err != nil {
			return err
		}
		if err := yield(idx, ledger.Evidence{PublicKey: key, Signature: sig}); err != nil {
			return err
		}
		next = idx + 1
	}
	if err := rows.Err(); err != nil {
		return t.DB.Wrap("evidence", err)
	}
	return without(end)
}

// Tile implements store.Store.
func (t Tables) Tile(ctx context.Context, level int, n int64) ([]byte, error) {
	var data []byte
	err := t.DB.QueryRow(ctx, "SELECT data FROM ledger_tile WHERE level = $1 AND n = $2", level, n).Scan(&data)
	return data, t.DB.Wrap("tile", err)
}

// NameTaken implements store.Store.
func (t Tables) NameTaken(ctx context.Context, key, skeleton string) (bool, error) {
	var taken bool
	err := t.DB.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM name WHERE key = $1) OR EXISTS (SELECT 1 FROM name WHERE skeleton = $2 AND $2 <> '')", key, skeleton).Scan(&taken)
	return taken, t.DB.Wrap("name", err)
}

// AddCosignature implements store.Store.
func (t Tables) AddCosignature(ctx context.Context, size int64, witness string, line []byte) error {
	_, err := t.DB.Exec(ctx, "INSERT INTO cosignature VALUES ($1, $2, $3) ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line", size, witness, line)
	return t.DB.Wrap("cosignature", err)
}

// Cosignatures implements store.Store.
func (t Tables) Cosignatures(ctx context.Context, size int64) ([][]byte, error) {
	return collect(ctx, t.DB, "cosignatures", "SELECT line FROM cosignature WHERE size = $1 ORDER BY witness", []any{size}, func(r Row) (line []byte, err error) {
		return line, r.Scan(&line)
	})
}
