package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/jirani/jirani/nameserver/store"
)

// CreateInvite implements store.Invites.
func (t Tables) CreateInvite(ctx context.Context, inv store.Invite) error {
	var expires int64
	if !inv.ExpiresAt.IsZero() {
		expires = inv.ExpiresAt.Unix()
	}
	_, err := t.DB.Exec(ctx, "INSERT INTO invite VALUES ($1, $2, $3, $4)", inv.TokenHash[:], inv.UsesLeft, expires, inv.Note)
	return t.DB.Wrap("create invite", err)
}

const selectInvite = "SELECT token_hash, uses_left, expires, note FROM invite"

func scanInvite(row Row) (store.Invite, error) {
	var inv store.Invite
	var hash []byte
	var expires int64
	err := row.Scan(&hash, &inv.UsesLeft, &expires, &inv.Note)
	copy(inv.TokenHash[:], hash)
	if expires != 0 {
		inv.ExpiresAt = time.Unix(expires, 0).UTC()
	}
	return inv, err
}

// Invite implements store.Invites.
func (t Tables) Invite(ctx context.Context, hash [32]byte) (store.Invite, error) {
	inv, err := scanInvite(t.DB.QueryRow(ctx, selectInvite+" WHERE token_hash = $1", hash[:]))
	return inv, t.DB.Wrap("invite", err)
}

// RevokeInvite implements store.Invites.
func (t Tables) RevokeInvite(ctx context.Context, hash [32]byte) error {
	return t.deleteOne(ctx, "DELETE FROM invite WHERE token_hash = $1", hash[:])
}

func (t Tables) deleteOne(ctx context.Context, query string, arg any) error {
	n, err := t.DB.Exec(ctx, query, arg)
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	return t.DB.Wrap("delete", err)
}

// ListInvites implements store.Invites.
func (t Tables) ListInvites(ctx context.Context) ([]store.Invite, error) {
	return collect(ctx, t.DB, "invites", selectInvite+" ORDER BY token_hash", nil, scanInvite)
}

// Reserve implements store.Reservations.
func (t Tables) Reserve(ctx context.Context, r store.Reservation) error {
	_, err := t.DB.Exec(ctx, "INSERT INTO reservation VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET note = excluded.note", r.Key, r.Note)
	return t.DB.Wrap("reserve", err)
}

// Unreserve implements store.Reservations.
func (t Tables) Unreserve(ctx context.Context, key string) error {
	return t.deleteOne(ctx, "DELETE FROM reservation WHERE key = $1", key)
}

const selectReservation = "SELECT key, note FROM reservation"

func scanReservation(row Row) (r store.Reservation, err error) {
	return r, row.Scan(&r.Key, &r.Note)
}

// Reserved implements store.Reservations.
func (t Tables) Reserved(ctx context.Context, key string) (store.Reservation, error) {
	r, err := scanReservation(t.DB.QueryRow(ctx, selectReservation+" WHERE key = $1", key))
	return r, t.DB.Wrap("reservation", err)
}

// ListReservations implements store.Reservations.
func (t Tables) ListReservations(ctx context.Context) ([]store.Reservation, error) {
	return collect(ctx, t.DB, "reservations", selectReservation+" ORDER BY key", nil, scanReservation)
}
