package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/mirror"
	"github.com/jirani/jirani/nameserver/policy"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
	"github.com/jirani/jirani/nameserver/store/postgres"
	"github.com/jirani/jirani/nameserver/store/sqlite"
	"github.com/jirani/jirani/nameserver/witness"
)

// The files of state_dir.
const (
	databaseFile = "ledger.db" // the embedded store
	keyFile      = "log.key"   // signs checkpoints
	// PublishedFile keeps the last checkpoint that left this server; it guards
	// against rollback.
	PublishedFile = "published.note"
)

// openBackend opens store and ledger, and makes them when cfg asks for that.
func openBackend(ctx context.Context, cfg Config, deps Deps) (backend, error) {
	st, err := OpenStore(ctx, cfg)
	if err != nil {
		return backend{}, err
	}
	open := openWriter
	if cfg.Follow.URL != "" {
		open = openMirror
	}
	b, err := open(ctx, cfg, deps, st)
	if err == nil {
		b.witness, err = openWitness(cfg)
	}
	if err != nil {
		return backend{}, errors.Join(err, st.Close())
	}
	return b, nil
}

func openWriter(ctx context.Context, cfg Config, deps Deps, st store.Store) (backend, error) {
	if cfg.Ledger.Create || cfg.loopbackOnly() {
		if err := createMissing(ctx, cfg, st, deps.Now()); err != nil {
			return backend{}, err
		}
	}
	key, err := ReadKey(cfg)
	if err != nil {
		return backend{}, err
	}
	options := RegistryOptions(cfg, st, key)
	options.Log, options.Now = deps.Log, deps.Now
	peers, err := witnessPeers(cfg)
	if err != nil {
		return backend{}, err
	}
	options.Witnessed = len(peers) > 0
	for _, p := range peers {
		options.Guards = append(options.Guards, p)
	}
	reg, err := registry.Open(ctx, options)
	if errors.Is(err, store.ErrNoLedger) {
		return backend{}, service.Hint(err, "run: jirani-nameserver ledger init")
	}
	if err != nil {
		return backend{}, err
	}
	b := backend{
		reader: reg, writer: reg, reservations: st,
		members: service.Group{{Name: "ledger", Runner: reg}},
		close:   st.Close,
	}
	if len(peers) > 0 {
		b.members = append(b.members, service.Member{Name: "witnesses", Runner: witness.NewClient(reg, peers, deps.Log)})
	}
	return b, nil
}

// witnessPeers are the witnesses to ask.
func witnessPeers(cfg Config) ([]*witness.Peer, error) {
	peers := make([]*witness.Peer, len(cfg.Ledger.Witnesses))
	for i, w := range cfg.Ledger.Witnesses {
		p, err := witness.NewPeer(w.URL, w.VKey, nil)
		if err != nil {
			return nil, err
		}
		peers[i] = p
	}
	return peers, nil
}

// witnessDir is where a witness remembers what it signed, in state_dir.
const witnessDir = "witness"

// openWitness makes this server a witness of other logs, if it has a key for
// that.
func openWitness(cfg Config) (http.Handler, error) {
	if cfg.Ledger.Witness.KeyFile == "" {
		return nil, nil
	}
	text, err := cfg.Ledger.Witness.KeyFile.Read()
	if err != nil {
		return nil, err
	}
	key, err := ledger.ParseSigningKey(text)
	if err != nil {
		return nil, fmt.Errorf("nameserver: %s: %w", cfg.Ledger.Witness.KeyFile, err)
	}
	return witness.New(key, cfg.Ledger.Witness.Logs, filepath.Join(cfg.StateDir, witnessDir))
}

// RegistryOptions says how the writer's ledger is opened, by the server and by
// commands beside it.
func RegistryOptions(cfg Config, st store.Store, key ledger.SigningKey) registry.Options {
	options := registry.Options{
		Store: st, Key: key, Published: filepath.Join(cfg.StateDir, PublishedFile), Verifiers: cfg.Limits.Verify,
		CacheBytes: int64(cfg.Ledger.Cache), MaxStale: cfg.Follow.MaxStale, Skeleton: cfg.skeleton(),
	}
	for _, url := range cfg.Ledger.Guards {
		options.Guards = append(options.Guards, mirror.Guard{Source: LedgerAt(url, "", "")})
	}
	return options
}

// LedgerAt is the ledger of the name server with that base URL, asked with a
// token, if it is not empty, and by a mirror of that name, if it has one.
func LedgerAt(url, token, mirrorName string) mirror.Source {
	return &mirror.HTTPSource{URL: strings.TrimSuffix(url, "/") + "/ledger", Token: token, Name: mirrorName}
}

// skeleton is the confusables rule for names that come from elsewhere.
func (c Config) skeleton() func(string) string {
	if !c.Policy.Confusables {
		return nil
	}
	return policy.Skeleton
}

// OpenStore opens the store that cfg names, without a ledger if it has none.
// The caller closes it.
func OpenStore(ctx context.Context, cfg Config) (store.Store, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("nameserver: state_dir: %w", err)
	}
	switch cfg.Store.Engine {
	case EngineSQLite:
		return sqlite.Open(ctx, filepath.Join(cfg.StateDir, databaseFile), sqlite.Options{})
	case EnginePostgres:
		dsn, err := cfg.Store.DSNFile.Read()
		if err != nil {
			return nil, err
		}
		return postgres.Open(ctx, dsn)
	default:
		return nil, fmt.Errorf("nameserver: no engine %q", cfg.Store.Engine)
	}
}

// KeyPath is where the key that signs checkpoints is kept.
func (c Config) KeyPath() string {
	if c.Ledger.KeyFile != "" {
		return string(c.Ledger.KeyFile)
	}
	return filepath.Join(c.StateDir, keyFile)
}

// ReadKey reads the key that signs checkpoints.
func ReadKey(cfg Config) (ledger.SigningKey, error) {
	b, err := os.ReadFile(cfg.KeyPath())
	if errors.Is(err, os.ErrNotExist) {
		return ledger.SigningKey{}, service.Hint(fmt.Errorf("nameserver: no key for the ledger: %w", err), "run: jirani-nameserver ledger init")
	}
	if err != nil {
		return ledger.SigningKey{}, fmt.Errorf("nameserver: %w", err)
	}
	key, err := ledger.ParseSigningKey(string(b))
	if err != nil {
		return key, fmt.Errorf("nameserver: %s: %w", cfg.KeyPath(), err)
	}
	return key, nil
}

// Init makes the ledger's key, unless there is one, and an empty ledger. It
// fails with store.ErrExists if there is a ledger.
func Init(ctx context.Context, cfg Config, now time.Time) error {
	st, err := OpenStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.State(ctx); !errors.Is(err, store.ErrNoLedger) {
		if err == nil {
			err = store.ErrExists
		}
		return err
	}
	return create(ctx, cfg, st, now)
}

// create makes what Init makes.
func create(ctx context.Context, cfg Config, st store.Store, now time.Time) error {
	if _, err := os.Stat(cfg.KeyPath()); errors.Is(err, os.ErrNotExist) {
		key, err := ledger.GenerateSigningKey(cfg.Ledger.Origin)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(cfg.KeyPath(), []byte(key.Encode()+"\n"), 0o600); err != nil {
			return err
		}
	}
	key, err := ReadKey(cfg)
	if err != nil {
		return err
	}
	return registry.Create(ctx, st, key, now)
}

// createMissing makes key and ledger if neither is there. A key without its
// ledger is the trace of a lost store, and never the start of a new one.
func createMissing(ctx context.Context, cfg Config, st store.Store, now time.Time) error {
	if _, err := os.Stat(cfg.KeyPath()); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := st.State(ctx); !errors.Is(err, store.ErrNoLedger) {
		return nil
	}
	return create(ctx, cfg, st, now)
}
