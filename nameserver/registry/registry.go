// Package registry runs the name ledger over a store: it sequences
// registrations into signed batches, keeps map and index in memory, and answers
// lookups with proofs.
//
// A registration is acknowledged only when it is durable and under a signed
// checkpoint; the signature leaves the process only after the store
// acknowledged the commit. Several registries may share one store: each may
// sequence, the store's lock decides, and each catches up with the others.
//
//	Open(ctx, Options) (*Registry, error)   reads and checks the whole log
//	(*Registry).Run(ctx) error              sequences until ctx is done
//	NewHandler(Reader) http.Handler         checkpoint[?after=N], vkeys, tile/…
//
// A *Registry is a [Reader] and a [Writer]; a mirror is a registry without a
// key, fed by package mirror.
package registry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/store"
)

// What callers match. Errors of ledger.Registration.Verify (ErrMalformed,
// ErrInvalidKey, ErrInvalidSignature) come through unchanged.
var (
	// ErrNotFound: nobody has the name or address (or the name is burnt). It
	// is given only when that is known for sure; otherwise ErrNotReady.
	ErrNotFound = errors.New("registry: not found")
	// ErrTaken: the name is another account's, is burnt, or is confusable
	// with one that is; final.
	ErrTaken = errors.New("registry: name taken")
	// ErrAddressTaken: the address has another name; final.
	ErrAddressTaken = errors.New("registry: address has a name")
	// ErrInvite: the invite is unknown, spent, revoked or expired; final.
	ErrInvite = errors.New("registry: invite not valid")
	// ErrNotReady: starting, store unreachable, or catching up; ask again.
	ErrNotReady = errors.New("registry: not ready")
	// ErrBusy: the queue is full or the deadline passed; ask again. The
	// registration may still come to be, and a repeat is then a success.
	ErrBusy = errors.New("registry: busy")
	// ErrReadOnly: a mirror, or a writer that found itself rolled back;
	// register with the writer.
	ErrReadOnly = errors.New("registry: read-only")
)

// Record is a registration as it is served.
type Record struct {
	Index     int64 // in the log
	Time      time.Time
	Name      string // as signed
	Key       string // lookup form
	Address   ledger.Address
	Owner     *ledger.Address
	PublicKey []byte // text as the client sent it
	Signature []byte
}

// CheckpointSource is somewhere the log's last checkpoint is kept apart from
// the store: a file, a mirror, a witness.
type CheckpointSource interface {
	Name() string
	// LastCheckpoint returns the signed checkpoint, or nil if it has none.
	LastCheckpoint(ctx context.Context) ([]byte, error)
}

// SizeGuard is a CheckpointSource that only tells how long a log it has seen,
// given this one's published checkpoint: a witness.
type SizeGuard interface {
	SeenSize(ctx context.Context, signed []byte, size int64) (int64, error)
}

// Options says what a registry runs on.
type Options struct {
	Store store.Store
	// Key signs checkpoints. The zero key makes a read-only registry.
	Key ledger.SigningKey
	// Guards are asked before the first signature whether they saw a longer
	// log than the store has; if one did, the registry stays read-only.
	Guards []CheckpointSource
	// Published is the path of the file where the last published checkpoint
	// is kept, apart from the store; it is a guard too. Empty: none.
	Published string
	// Witnessed says that cosignatures are to be looked up in the store and
	// added to checkpoints.
	Witnessed bool
	// MaxBatch bounds registrations per commit; default 1024.
	MaxBatch int
	// Queue bounds registrations waiting; default 8192. Beyond it: ErrBusy.
	Queue int
	// Verifiers bounds RSA verifications at a time; default GOMAXPROCS.
	Verifiers int
	// CacheBytes bounds the memory for records and tiles; default 64 MiB.
	CacheBytes int64
	// Poll is how often the state row is read for other replicas' progress;
	// default 250ms.
	Poll time.Duration
	// MaxStale is how old a mirror's last word from its source may be for a
	// miss to be answered "not found"; beyond it misses are ErrNotReady, since
	// a wrong "not found" makes clients forget their name. Default 10s.
	MaxStale time.Duration
	// Skeleton computes the skeletons of names that come from elsewhere than
	// Register (mirror, restore); nil leaves them out.
	Skeleton func(key string) string
	Log      *slog.Logger
	// Now is the clock; default time.Now. It may jump; the log's does not.
	Now func() time.Time
}

// Status is what health, metrics and pages show.
type Status struct {
	Origin       string
	Size         int64 // of the published log
	Names        int64
	CheckpointAt time.Time // time of the last MapRoot
	Ready        bool
	ReadOnly     bool
	Reason       string // why not ready or read-only
	QueueLength  int
}

// Reader is what the HTTP side needs for answers; *Registry has it, for the
// writer and for mirrors alike.
type Reader interface {
	LookupName(ctx context.Context, key string) (Record, error)
	LookupAddress(ctx context.Context, a ledger.Address) (Record, error)
	// Prove returns the proof of what the log says about the subject, found
	// or not, as of the checkpoint it carries.
	Prove(ctx context.Context, s ledger.Subject) (ledger.Proof, error)
	// Entry returns an entry below the published size with its evidence.
	Entry(ctx context.Context, index int64) (ledger.Entry, ledger.Evidence, error)

	// Checkpoint returns the published note with the cosignatures so far.
	Checkpoint(ctx context.Context) ([]byte, error)
	// WaitCheckpoint returns it once its size is above after, or ctx's error.
	WaitCheckpoint(ctx context.Context, after int64) ([]byte, error)
	// Resource returns a tile, entry bundle or evidence bundle of the
	// published log; ErrNotFound for one it does not have.
	Resource(ctx context.Context, id ledger.TileID) ([]byte, error)
	// VKeys returns the log's verifier keys, the one in force first.
	VKeys() []string
	Status() Status
}

// Writer is what changes the log; on a mirror every method is ErrReadOnly.
type Writer interface {
	// Register verifies r and binds the name; it returns when that is durable
	// and under a signed checkpoint. The same name, address and key again is
	// a success. It holds the call over store failures until ctx ends.
	Register(ctx context.Context, r ledger.Registration) (Record, error)
	// Burn makes a name unregistrable for ever.
	Burn(ctx context.Context, key, reason string) error
	// RecordPolicy logs the hash of the rules text in force, if it changed.
	RecordPolicy(ctx context.Context, hash [32]byte) error
	// RotateKey hands the log over to next.
	RotateKey(ctx context.Context, next ledger.SigningKey) error
}
