package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/jirani/jirani/nameserver/store"
)

// CreateInvite implements store.Invites.
func (s *Store) CreateInvite(ctx context.Context, inv store.Invite) error {
	_, err := s.write.ExecContext(ctx, "INSERT INTO invite VALUES (?, ?, ?, ?)", inv.TokenHash[:], inv.UsesLeft, unixOrZero(inv.ExpiresAt), inv.Note)
	return wrap("create invite", err)
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func scanInvite(scan func(...any) error) (store.Invite, error) {
	var inv store.Invite
	var hash []byte
	var expires int64
	err := scan(&hash, &inv.UsesLeft, &expires, &inv.Note)
	copy(inv.TokenHash[:], hash)
	if expires != 0 {
		inv.ExpiresAt = time.Unix(expires, 0).UTC()
	}
	return inv, wrap("invite", err)
}

// Invite implements store.Invites.
func (s *Store) Invite(ctx context.Context, hash [32]byte) (store.Invite, error) {
	return scanInvite(s.read.QueryRowContext(ctx, "SELECT token_hash, uses_left, expires, note FROM invite WHERE token_hash = ?", hash[:]).Scan)
}

// RevokeInvite implements store.Invites.
func (s *Store) RevokeInvite(ctx context.Context, hash [32]byte) error {
	return s.deleteOne(ctx, "DELETE FROM invite WHERE token_hash = ?", hash[:])
}

func (s *Store) deleteOne(ctx context.Context, q string, arg any) error {
	res, err := s.write.ExecContext(ctx, q, arg)
	if err != nil {
		return wrap("delete", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return wrap("delete", sql.ErrNoRows)
	}
	return nil
}

// ListInvites implements store.Invites.
func (s *Store) ListInvites(ctx context.Context) ([]store.Invite, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT token_hash, uses_left, expires, note FROM invite ORDER BY token_hash")
	if err != nil {
		return nil, wrap("invites", err)
	}
	defer rows.Close()
	var out []store.Invite
	for rows.Next() {
		inv, err := scanInvite(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, inv)
	}
	return out, wrap("invites", rows.Err())
}

// Reserve implements store.Reservations.
func (s *Store) Reserve(ctx context.Context, r store.Reservation) error {
	_, err := s.write.ExecContext(ctx, "INSERT INTO reservation VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET note = excluded.note", r.Key, r.Note)
	return wrap("reserve", err)
}

// Unreserve implements store.Reservations.
func (s *Store) Unreserve(ctx context.Context, key string) error {
	return s.deleteOne(ctx, "DELETE FROM reservation WHERE key = ?", key)
}

// Reserved implements store.Reservations.
func (s *Store) Reserved(ctx context.Context, key string) (store.Reservation, error) {
	var r store.Reservation
	err := s.reserved.QueryRowContext(ctx, key).Scan(&r.Key, &r.Note)
	return r, wrap("reservation", err)
}

// ListReservations implements store.Reservations.
func (s *Store) ListReservations(ctx context.Context) ([]store.Reservation, error) {
	rows, err := s.read.QueryContext(ctx, "SELECT key, note FROM reservation ORDER BY key")
	if err != nil {
		return nil, wrap("reservations", err)
	}
	defer rows.Close()
	var out []store.Reservation
	for rows.Next() {
		var r store.Reservation
		if err := rows.Scan(&r.Key, &r.Note); err != nil {
			return nil, wrap("reservations", err)
		}
		out = append(out, r)
	}
	return out, wrap("reservations", rows.Err())
}
