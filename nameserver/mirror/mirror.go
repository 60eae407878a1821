// Package mirror follows a name ledger: it pulls tiles and evidence, checks
// everything a log promises, stores it and lets a registry serve it.
//
// Trusted is only a verifier key of the log. Before an entry is stored it is
// known to be under a checkpoint signed by the log, its registration signed by
// the account, the map root after it right. A source that shows another log
// than before is not followed: the mirror freezes at its last good size and
// keeps both signed notes as evidence.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/internal/wait"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
)

// ErrEquivocation says that the log signed two checkpoints of which neither
// extends the other. It is proof of misbehaviour; keep the notes.
var ErrEquivocation = errors.New("mirror: log shows different histories")

// Options says what to follow.
type Options struct {
	// Registry is the mirror's own, opened without a key.
	Registry *registry.Registry
	Source   Source
	// VKeys are the log's verifier keys known beforehand. A key that one of
	// them, or its successor, handed over to in the log is good too.
	VKeys []string
	// EvidenceDir is where the notes of an equivocation are kept; empty:
	// only in the log output.
	EvidenceDir string
	// SkipSignatures leaves out the RSA verification of registrations, for a
	// source whose evidence was verified before, such as an own export.
	SkipSignatures bool
	Log            *slog.Logger
}

// Follower follows one source.
type Follower struct {
	opt    Options
	origin string
	ring   note.Verifiers // the keys known beforehand
	behind atomic.Int64   // entries the source had more, when last looked
}

// New checks the options. It starts nothing.
func New(opt Options) (*Follower, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if len(opt.VKeys) == 0 {
		return nil, errors.New("mirror: no verifier key to trust")
	}
	v, err := ledger.ParseVerifier(opt.VKeys[0])
	if err != nil {
		return nil, err
	}
	ring, err := ledger.KeyRing(opt.VKeys...)
	if err != nil {
		return nil, err
	}
	return &Follower{opt: opt, origin: v.Name(), ring: ring}, nil
}

// Lag returns how many entries the source had more than this mirror when it
// was last looked at.
func (f *Follower) Lag() int64 { return f.behind.Load() }

// pollWait is how long the source is asked to hold a request when there is
// nothing new, and retryPause how long to wait after a failure.
const (
	pollWait   = 3 * time.Second
	retryPause = time.Second
)

// Run follows until ctx is done or the mirror freezes.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.Step(ctx, true)
		switch {
		case err == nil || ctx.Err() != nil:
		case f.opt.Registry.Status().ReadOnly && frozen(err):
			return err
		default:
			f.opt.Log.Warn("mirror step failed", "err", err)
			_ = wait.For(ctx, retryPause)
		}
	}
	return nil
}

func frozen(err error) bool {
	return errors.Is(err, ErrEquivocation) || errors.Is(err, registry.ErrInconsistent) || errors.Is(err, registry.ErrReadOnly)
}

// Step asks the source for its checkpoint, waiting a little for a new one if
// wait is set, and catches up with it.
func (f *Follower) Step(ctx context.Context, wait bool) error {
	path := "checkpoint"
	size := f.opt.Registry.Status().Size
	if wait && size > 0 {
		path = fmt.Sprintf("checkpoint?after=%d&wait=%d", size, int(pollWait.Seconds()))
	}
	signed, err := f.opt.Source.Get(ctx, path, ledger.MaxCheckpoint)
	if err != nil {
		return err
	}
	c, known, err := f.open(ctx, signed)
	if err != nil {
		return err
	}
	f.behind.Store(max(0, c.Size-size))
	if c.Size <= size {
		return f.compare(ctx, c, signed)
	}
	if err := f.catchUp(ctx, c, signed, known); err != nil {
		return err
	}
	f.behind.Store(0)
	f.opt.Registry.Heard()
	return nil
}

// open checks the signature by a key known beforehand or found in the log so
// far. A note by another key is opened by what the source says are its keys;
// then known is false, and the entries have to show that the key is good
// before they are stored.
func (f *Follower) open(ctx context.Context, signed []byte) (c ledger.Checkpoint, known bool, err error) {
	if f.opt.Registry != nil {
		if ring, err := ledger.KeyRing(f.opt.Registry.VKeys()...); err == nil {
			if c, _, err := ledger.OpenCheckpoint(signed, f.origin, ring); err == nil {
				return c, true, nil
			}
		}
	}
	if c, _, err = ledger.OpenCheckpoint(signed, f.origin, f.ring); err == nil {
		return c, true, nil
	}
	const maxVKeys = 64 << 10
	lines, getErr := f.opt.Source.Get(ctx, "vkeys", maxVKeys)
	if getErr != nil {
		return c, false, err
	}
	ring, parseErr := ledger.KeyRing(strings.Fields(string(lines))...)
	if parseErr != nil {
		return c, false, err
	}
	c, _, err = ledger.OpenCheckpoint(signed, f.origin, ring)
	return c, false, err
}

// compare holds a checkpoint not longer than ours against our log.
func (f *Follower) compare(ctx context.Context, c ledger.Checkpoint, signed []byte) error {
	root, err := f.opt.Registry.RootAt(ctx, c.Size)
	if err != nil {
		return err
	}
	if root != c.Root {
		return f.equivocation(ctx, signed)
	}
	if size := f.opt.Registry.Status().Size; c.Size < size {
		return fmt.Errorf("mirror: source is behind: %d entries there, %d here", c.Size, size)
	}
	f.opt.Registry.Heard()
	return nil
}

// equivocation freezes the mirror and keeps the source's note beside ours.
func (f *Follower) equivocation(ctx context.Context, theirs []byte) error {
	err := fmt.Errorf("%w (%s)", ErrEquivocation, f.opt.Source)
	f.opt.Registry.Freeze(err)
	ours, noteErr := f.opt.Registry.Checkpoint(ctx)
	if noteErr != nil {
		ours = nil
	}
	f.opt.Log.Error("ledger equivocation", "ours", string(ours), "theirs", string(theirs))
	if f.opt.EvidenceDir == "" {
		return err
	}
	stamp := time.Now().UTC().Format("20060102T150405Z")
	for name, b := range map[string][]byte{"ours": ours, "theirs": theirs} {
		path := filepath.Join(f.opt.EvidenceDir, "equivocation-"+stamp+"-"+name+".note")
		err = errors.Join(err, durable.WriteFile(path, b, 0o644))
	}
	return err
}

// maxUnknown bounds the entries taken in one piece while the checkpoint's key
// is still to be shown good.
const maxUnknown = 1 << 17

// catchUp gets and stores what is between the mirror and c.
func (f *Follower) catchUp(ctx context.Context, c ledger.Checkpoint, signed []byte, known bool) error {
	if err := f.checkPrefix(ctx, c, signed); err != nil {
		return err
	}
	fetch := newFetcher(f.opt.Source, c, !f.opt.SkipSignatures)
	var held registry.Feed
	for at := f.opt.Registry.StoredSize(); ; {
		feed, err := fetch.chunk(ctx, at)
		if err != nil {
			return err
		}
		at += int64(len(feed.Entries))
		if !known {
			if held.Entries = append(held.Entries, feed.Entries...); len(held.Entries) > maxUnknown {
				return fmt.Errorf("%w: signed by a key not known, too far ahead to follow its hand-over", ledger.ErrCheckpoint)
			}
			held.Evidence = append(held.Evidence, feed.Evidence...)
			feed = held
		}
		if at == c.Size {
			feed.Checkpoint = signed
			return f.ingest(ctx, feed, known)
		}
		if known {
			if err := f.ingest(ctx, feed, known); err != nil {
				return err
			}
		}
	}
}

// ingest stores a feed. A log that begins here must begin with a key known
// beforehand, or with one that hands over to it.
func (f *Follower) ingest(ctx context.Context, feed registry.Feed, known bool) error {
	if !known {
		if err := f.checkChain(feed); err != nil {
			return err
		}
	}
	return f.opt.Registry.Ingest(ctx, feed)
}

// checkChain insists that the keys of log and feed, each handing over to the
// next (which Ingest checks), hold one known beforehand.
func (f *Follower) checkChain(feed registry.Feed) error {
	chain := f.opt.Registry.VKeys()
	for _, b := range feed.Entries {
		if e, err := ledger.ParseEntry(b); err == nil {
			if k, ok := e.(*ledger.Key); ok {
				chain = append(chain, k.VKey)
			}
		}
	}
	for _, have := range chain {
		for _, want := range f.opt.VKeys {
			if strings.TrimSpace(want) == have {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: none of the log's keys is known", ledger.ErrCheckpoint)
}

// checkPrefix makes sure that c extends what is published here, by the tiles
// of c.
func (f *Follower) checkPrefix(ctx context.Context, c ledger.Checkpoint, signed []byte) error {
	size := f.opt.Registry.Status().Size
	if size == 0 {
		return nil
	}
	ours, err := f.opt.Registry.RootAt(ctx, size)
	if err != nil {
		return err
	}
	tiles := newFetcher(f.opt.Source, c, false).tiles
	tiles.ctx = ctx
	theirs, err := tlog.TreeHash(size, tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, tiles))
	if err != nil {
		return fmt.Errorf("mirror: tiles of checkpoint %d: %w", c.Size, err)
	}
	if theirs != ours {
		return f.equivocation(ctx, signed)
	}
	return nil
}
