package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/jirani/jirani/internal/wait"
	"github.com/jirani/jirani/nameserver/ledger"
	"github.com/jirani/jirani/nameserver/registry"
)

// Peer is a witness to ask.
type Peer struct {
	url      string
	verifier note.Verifier
	client   *http.Client
}

// ErrAhead says that a witness has signed a longer log than this one.
var ErrAhead = errors.New("witness: has signed a longer log")

// maxAnswer bounds a witness's answer: some cosignature lines.
const maxAnswer = 16 << 10

// NewPeer makes a peer of a submission prefix and the witness's key. A nil
// client is the default one.
func NewPeer(url, vkey string, client *http.Client) (*Peer, error) {
	v, err := ledger.ParseWitness(vkey)
	if err != nil {
		return nil, err
	}
	if client == nil {
		client = http.DefaultClient
	}
	return &Peer{url: strings.TrimSuffix(url, "/"), verifier: v, client: client}, nil
}

// Name returns the witness's name.
func (p *Peer) Name() string { return p.verifier.Name() }

// LastCheckpoint implements registry.CheckpointSource: a witness shows none,
// see SeenSize.
func (p *Peer) LastCheckpoint(context.Context) ([]byte, error) { return nil, nil }

// SeenSize returns the size of the last checkpoint the witness signed of the
// log this one is of. A witness that knew none has signed this one then.
func (p *Peer) SeenSize(ctx context.Context, signed []byte, size int64) (int64, error) {
	_, seen, err := p.submit(ctx, 0, nil, signed)
	var no *refusal
	if errors.As(err, &no) && no.status == http.StatusConflict {
		return seen, nil
	}
	return size, err
}

// submit posts a checkpoint. On 409 the size returned is the witness's.
func (p *Peer) submit(ctx context.Context, old int64, proof []ledger.Hash, signed []byte) (line []byte, seen int64, err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range proof {
		fmt.Fprintf(&b, "%v\n", h)
	}
	b.WriteByte('\n')
	b.Write(signed)
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/add-checkpoint", &b)
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, 0, fmt.Errorf("witness: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		line, err = p.own(signed, body)
		return line, 0, err
	}
	if res.StatusCode == http.StatusConflict {
		seen, err = strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
		if err != nil {
			return nil, 0, fmt.Errorf("witness: 409 without a size")
		}
	}
	return nil, seen, &refusal{status: res.StatusCode, size: seen, why: fmt.Sprintf("%s answers %d", p.Name(), res.StatusCode)}
}

// own returns the peer's verified line among those answered; lines by others
// are ignored.
func (p *Peer) own(signed, lines []byte) ([]byte, error) {
	merged := ledger.MergeSignatures(signed, lines)
	if _, err := note.Open(merged, note.VerifierList(p.verifier)); err != nil {
		return nil, fmt.Errorf("witness: answer of %s: %w", p.Name(), err)
	}
	for l := range bytes.Lines(lines) {
		if _, err := note.Open(ledger.MergeSignatures(signed, l), note.VerifierList(p.verifier)); err == nil {
			return bytes.Clone(l), nil
		}
	}
	return nil, fmt.Errorf("witness: no cosignature by %s", p.Name())
}

// Client has the checkpoints of a registry cosigned.
type Client struct {
	reg   *registry.Registry
	peers []*Peer
	log   *slog.Logger
}

// NewClient makes a client; the registry must have been opened with Witnessed.
func NewClient(reg *registry.Registry, peers []*Peer, log *slog.Logger) *Client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{reg, peers, log}
}

const (
	requestTimeout = 10 * time.Second
	// pace is the least time between two checkpoints shown to one witness:
	// what is published in between is covered by the later.
	pace = time.Second
	// maxPause bounds the wait after failures.
	maxPause = time.Minute
)

// Run asks every witness for each published checkpoint, or the latest where
// they come faster, until ctx is done.
func (c *Client) Run(ctx context.Context) error {
	done := make(chan struct{})
	for _, p := range c.peers {
		go func() { // ends with ctx; awaited below
			c.follow(ctx, p)
			done <- struct{}{}
		}()
	}
	for range c.peers {
		<-done
	}
	<-ctx.Done()
	return nil
}

func (c *Client) follow(ctx context.Context, p *Peer) {
	known, shown, pause := int64(0), int64(-1), pace
	for ctx.Err() == nil {
		signed, err := c.reg.WaitCheckpoint(ctx, shown)
		if err == nil {
			shown, known, err = c.ask(ctx, p, signed, known)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("witness did not cosign", "witness", p.Name(), "err", err)
			shown, pause = -1, min(2*pause, maxPause)
		} else {
			pause = pace
		}
		_ = wait.For(ctx, pause)
	}
}

// ask shows one checkpoint to a witness that is thought to know the log up to
// known. It returns the size shown and the size the witness knows then.
func (c *Client) ask(ctx context.Context, p *Peer, signed []byte, known int64) (shown, now int64, err error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	cp, err := ledger.ParseCheckpoint(text + "\n")
	if err != nil {
		return -1, known, err
	}
	for range 2 {
		proof, err := c.reg.Consistency(ctx, known, cp.Size)
		if err != nil {
			return -1, known, err
		}
		line, seen, err := p.submit(ctx, known, proof, signed)
		if err == nil {
			return cp.Size, cp.Size, c.reg.AddCosignature(ctx, cp.Size, p.Name(), line)
		}
		var no *refusal
		if !errors.As(err, &no) || no.status != http.StatusConflict || seen == known {
			return -1, known, err
		}
		if seen > cp.Size {
			return -1, known, fmt.Errorf("%w: %d entries, here %d", ErrAhead, seen, cp.Size)
		}
		known = seen
	}
	return -1, known, fmt.Errorf("witness: %s moves while asked", p.Name())
}
