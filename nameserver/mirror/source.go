package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jirani/jirani/nameserver/ledger"
)

// errNoResource says that a source does not have the resource.
var errNoResource = errors.New("mirror: source does not have it")

// Source is where a log's static resources come from. Nothing it says is
// trusted.
type Source interface {
	// Get returns the resource at a path of tlog-tiles, not more than limit
	// bytes of it.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
	String() string
}

// NameHeader is the request header in which a mirror tells its name.
const NameHeader = "Jirani-Mirror"

// HTTPSource reads from a server's ledger prefix, such as
// https://ns.example/ledger.
type HTTPSource struct {
	URL    string
	Token  string // bearer token, if the log is not public
	Name   string // what the mirror is called on the writer's pages; empty: not listed there
	Client *http.Client
}

// requestTimeout bounds one request, beside what a long poll waits.
const requestTimeout = 15 * time.Second

// Get implements Source.
func (s *HTTPSource) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.URL, "/")+"/"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	if s.Name != "" {
		req.Header.Set(NameHeader, s.Name)
	}
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %s", errNoResource, path)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("mirror: %s: status %d", path, res.StatusCode)
	}
	return readLimited(res.Body, limit, path)
}

func readLimited(r io.Reader, limit int64, path string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: %s: %w", path, err)
	}
	return b, nil
}

// String returns the address.
func (s *HTTPSource) String() string { return s.URL }

// DirSource reads an export.
type DirSource string

// Get implements Source.
func (d DirSource) Get(_ context.Context, path string, limit int64) ([]byte, error) {
	path, _, _ = strings.Cut(path, "?")
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", errNoResource, path)
	}
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	defer f.Close()
	return readLimited(f, limit, path)
}

// String returns the directory.
func (d DirSource) String() string { return string(d) }

// Guard makes a source one of those a writer asks before it signs.
type Guard struct{ Source }

// Name implements registry.CheckpointSource.
func (g Guard) Name() string { return g.String() }

// LastCheckpoint implements registry.CheckpointSource.
func (g Guard) LastCheckpoint(ctx context.Context) ([]byte, error) {
	b, err := g.Get(ctx, "checkpoint", ledger.MaxCheckpoint)
	if errors.Is(err, errNoResource) {
		return nil, nil
	}
	return b, err
}
