// Package store says what the name ledger needs from a database: an
// append-only log of entries with their evidence and full hash tiles, one state
// row that serialises writers, and a unique index of names and addresses.
//
// The engines are store/sqlite (embedded, one file) and store/postgres
// (several replicas). Both keep the promises below, and one suite,
// store/storetest, holds them to it:
//
//   - a [Tx] has the log to itself from Begin to Commit, across processes;
//   - Commit makes all of its batch durable or none; after an error other than
//     [ErrConflict] the caller cannot know which, and MUST read State again;
//   - nothing of the log is ever updated or deleted, which the database itself
//     enforces against its own clients.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
)

var (
	// ErrNoLedger says that the database is not initialised; run Init.
	ErrNoLedger = errors.New("store: no ledger here")
	// ErrExists says that there is a ledger already; Init changes nothing.
	ErrExists = errors.New("store: ledger exists")
	// ErrConflict says that another writer moved the log on first and nothing
	// of the batch took effect; begin again.
	ErrConflict = errors.New("store: log moved on")
	// ErrNotFound says that there is no such tile, entry or invite.
	ErrNotFound = errors.New("store: not found")
	// ErrFull says that there is no room left on the disk; nothing was stored.
	ErrFull = errors.New("store: disk full")
)

// State is the one row that says how long the log is. What it says is durable.
type State struct {
	Origin string
	// Size and Root describe every entry stored. In a mirror that is still
	// catching up they are ahead of what is published.
	Size int64
	Root ledger.Hash
	// MapRoot is the root of the map as of the last MapRoot entry.
	MapRoot ledger.Hash
	// PubSize and PubCheckpoint are the published, signed checkpoint. The
	// sequencer moves both together; PubSize is 0 in a new mirror.
	PubSize       int64
	PubCheckpoint []byte
	// VKey is the log's verifier key in force; KeyEpoch counts rotations.
	VKey     string
	KeyEpoch int
}

// Name is a row of the unique index.
type Name struct {
	Index    int64 // of the entry that registers or burns it
	Key      string
	Skeleton string          // "" is not unique
	Address  *ledger.Address // nil for a burnt name
	Invite   []byte          // SHA-256 of a token to spend, or nil
}

// Outcome of a claim on a name.
type Outcome int

// The outcomes.
const (
	Won      Outcome = iota
	Taken            // name, skeleton or address belongs to somebody
	NoInvite         // the invite is unknown, spent, revoked or expired
)

// Tile is a full hash tile.
type Tile struct {
	Level int
	N     int64
	Data  []byte
}

// Batch is what one commit appends.
type Batch struct {
	Entries  [][]byte          // encoded, from index State.Size on
	Evidence []ledger.Evidence // aligned with Entries
	Tiles    []Tile            // those that became full
	Next     State             // replaces the state row
}

// Store is one database. All methods are safe for concurrent use. Reads see
// what is committed.
type Store interface {
	// Init creates the ledger with its first state and batch; ErrExists.
	Init(ctx context.Context, b Batch) error
	// State returns the state row, or ErrNoLedger.
	State(ctx context.Context) (State, error)
	// Begin takes the log for writing and waits for another writer to finish.
	Begin(ctx context.Context) (Tx, error)

	// Entries calls yield with each entry in [first, end) in order. The slice
	// is valid during the call only.
	Entries(ctx context.Context, first, end int64, yield func(i int64, entry []byte) error) error
	// Evidence does the same for the evidence.
	Evidence(ctx context.Context, first, end int64, yield func(i int64, ev ledger.Evidence) error) error
	// Tile returns a full tile's hashes, or ErrNotFound.
	Tile(ctx context.Context, level int, n int64) ([]byte, error)
	// NameTaken tells whether a lookup key, or a skeleton if not "", is taken.
	NameTaken(ctx context.Context, key, skeleton string) (bool, error)

	// AddCosignature keeps a witness's signature line of the checkpoint of
	// that size; a second line by the same witness replaces the first.
	AddCosignature(ctx context.Context, size int64, witness string, line []byte) error
	// Cosignatures returns the lines for that size.
	Cosignatures(ctx context.Context, size int64) ([][]byte, error)

	Invites
	Reservations
	Close() error
}

// Tx is a hold on the log. It must end in Commit or Rollback; Rollback after
// Commit does nothing.
type Tx interface {
	// State is the state row as locked.
	State() State
	// Claim enters names into the index and spends their invites. Names that
	// do not win leave the transaction usable only for Rollback.
	Claim(ctx context.Context, now time.Time, names []Name) ([]Outcome, error)
	// Commit appends the batch and ends the transaction.
	Commit(ctx context.Context, b Batch) error
	Rollback()
}

// Invite lets registrations in under the invite policy. Only the SHA-256 of
// its token is stored.
type Invite struct {
	TokenHash [32]byte
	UsesLeft  int
	ExpiresAt time.Time // zero: never
	Note      string
}

// Invites keeps invites.
type Invites interface {
	CreateInvite(ctx context.Context, inv Invite) error
	// Invite returns the invite of that hash, spent or not; ErrNotFound.
	Invite(ctx context.Context, tokenHash [32]byte) (Invite, error)
	// RevokeInvite deletes; ErrNotFound.
	RevokeInvite(ctx context.Context, tokenHash [32]byte) error
	ListInvites(ctx context.Context) ([]Invite, error)
}

// Reservation keeps a lookup key from being registered without leaving a trace
// in the log; unlike a tombstone it can be lifted.
type Reservation struct {
	Key  string
	Note string
}

// Reservations keeps reserved names.
type Reservations interface {
	Reserve(ctx context.Context, r Reservation) error
	Unreserve(ctx context.Context, key string) error
	// Reserved returns the reservation of the key; ErrNotFound.
	Reserved(ctx context.Context, key string) (Reservation, error)
	ListReservations(ctx context.Context) ([]Reservation, error)
}
