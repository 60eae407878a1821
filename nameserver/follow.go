package nameserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jirani/jirani/internal/httpapi"
	"github.com/jirani/jirani/internal/logging"
	"github.com/jirani/jirani/internal/service"
	"github.com/jirani/jirani/internal/wait"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/mirror"
	"github.com/jirani/jirani/nameserver/nameproto"
	"github.com/jirani/jirani/nameserver/registry"
	"github.com/jirani/jirani/nameserver/store"
)

// openMirror opens a server that follows another: it checks and stores all the
// other's ledger has, answers from that, and sends registrations on.
func openMirror(ctx context.Context, cfg Config, deps Deps, st store.Store) (backend, error) {
	v, err := ledger.ParseVerifier(cfg.Follow.VKey)
	if err != nil {
		return backend{}, err
	}
	if err := registry.CreateMirror(ctx, st, v.Name()); err != nil && !errors.Is(err, store.ErrExists) {
		return backend{}, err
	}
	options := RegistryOptions(cfg, st, ledger.SigningKey{})
	options.Log, options.Now = deps.Log, deps.Now
	reg, err := registry.Open(ctx, options)
	if err != nil {
		return backend{}, err
	}
	token := ""
	if cfg.Follow.TokenFile != "" {
		if token, err = cfg.Follow.TokenFile.Read(); err != nil {
			return backend{}, err
		}
	}
	follower, err := mirror.New(mirror.Options{
		Registry: reg, Source: LedgerAt(cfg.Follow.URL, strings.TrimSpace(token), cfg.Follow.Name), VKeys: []string{cfg.Follow.VKey},
		EvidenceDir: cfg.StateDir, Log: deps.Log,
	})
	if err != nil {
		return backend{}, err
	}
	return backend{
		reader: reg, writer: reg,
		members: service.Group{{Name: "ledger", Runner: reg}, {Name: "mirror", Runner: lasting{follower, deps}}},
		close:   st.Close,
	}, nil
}

// lasting keeps the server answering from the last good state when its mirror
// has frozen; what froze it stays in the log, in /readyz and in state_dir.
type lasting struct {
	follower *mirror.Follower
	deps     Deps
}

func (l lasting) Run(ctx context.Context) error {
	if err := l.follower.Run(ctx); err != nil {
		l.deps.Log.Error("mirror frozen, a person must look", logging.KeyErr, err)
	}
	<-ctx.Done()
	return nil
}

// forward sends a registration on to the writer and gives its answer back. What
// may pass is tried again for as long as registrations are held.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) error {
	name, _ := pathParam(r, "name")
	key, err := s.policy().Names.Key(name)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, nameproto.MaxBody))
	if err != nil {
		return fmt.Errorf("%w: body: %v", nameproto.ErrMalformed, err)
	}
	if _, err := nameproto.ParseRegistration(body); err != nil {
		return err
	}
	ctx, release, err := s.hold(r.Context())
	if err != nil {
		return err
	}
	defer release()
	err = s.insist(ctx, func() error { return s.sendOn(ctx, r, body) })
	if err == nil {
		s.awaitName(ctx, key)
	}
	return err
}

// sendOn asks the writer once. Its final answers are the errors they came from.
func (s *Server) sendOn(ctx context.Context, r *http.Request, body []byte) error {
	target := strings.TrimSuffix(s.cfg.Follow.URL, "/") + r.URL.EscapedPath()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: path", nameproto.ErrMalformed)
	}
	req.Header.Set("Content-Type", "application/json")
	if ip := httpapi.ClientIP(r, s.cfg.TrustedProxies); ip.IsValid() {
		req.Header.Set("X-Forwarded-For", ip.String()) // counts if the writer trusts this mirror
	}
	res, err := s.upstream.Do(req)
	if err != nil {
		return fmt.Errorf("%w: writer: %w", registry.ErrNotReady, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, nameproto.MaxBody))
	switch res.StatusCode {
	case nameproto.StatusOK:
		return nil
	case nameproto.StatusMalformed:
		return fmt.Errorf("%w: the writer takes it for no registration", nameproto.ErrMalformed)
	case nameproto.StatusSignature:
		return nameproto.ErrSignature
	case nameproto.StatusRefused:
		return registry.ErrTaken
	default:
		return fmt.Errorf("%w: writer answers %d", registry.ErrNotReady, res.StatusCode)
	}
}

// ownWrite is how long a registration sent on waits to be seen here, so that a
// client that asks again at once finds its name.
const ownWrite = 5 * time.Second

func (s *Server) awaitName(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, ownWrite)
	defer cancel()
	for {
		if _, err := s.reader.LookupName(ctx, key); err == nil || wait.For(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}
