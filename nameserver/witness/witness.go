// Package witness is C2SP tlog-witness both ways: [Witness] cosigns the
// checkpoints of other logs, [Client] has this log's checkpoints cosigned.
//
// A witness signs a checkpoint only if it extends the last one it signed of
// that log, so a log that wants witnesses can show nobody a second history. It
// remembers one checkpoint per log, on disk before it answers. A stolen witness
// key lets its holder vouch for split views together with a log; a lost state
// directory makes the witness start again from whatever it is shown first, so
// it should be kept.
package witness

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/jirani/jirani/internal/durable"
	"github.com/jirani/jirani/nameserver/ledger"
)

// maxProof is how many consistency lines a request may have: the height of any
// log.
const maxProof = 63

// maxRequest bounds a request body: old size, proof, checkpoint.
const maxRequest = 64 + maxProof*45 + 1 + ledger.MaxCheckpoint

// Witness is a handler for add-checkpoint. It is safe for concurrent use.
type Witness struct {
	signer note.Signer
	logs   map[string]note.Verifiers // by origin
	dir    string

	mu sync.Mutex // one checkpoint at a time: compare, keep, sign
}

// New makes a witness of the logs with these verifier keys; a log's origin is
// its key's name, and a log may have several keys. dir is made if need be and
// holds a checkpoint per log.
func New(key ledger.SigningKey, logs []string, dir string) (*Witness, error) {
	signer, err := key.Cosigner()
	if err != nil {
		return nil, fmt.Errorf("witness: key: %w", err)
	}
	w := &Witness{signer: signer, logs: map[string]note.Verifiers{}, dir: dir}
	byOrigin := map[string][]note.Verifier{}
	for _, vkey := range logs {
		v, err := ledger.ParseVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("witness: %w", err)
		}
		byOrigin[v.Name()] = append(byOrigin[v.Name()], v)
	}
	for origin, vs := range byOrigin {
		w.logs[origin] = note.VerifierList(vs...)
	}
	return w, os.MkdirAll(dir, 0o700)
}

// refusal is an answer other than a cosignature.
type refusal struct {
	status int
	size   int64 // with 409: of the last checkpoint signed
	why    string
}

func (r *refusal) Error() string { return "witness: " + r.why }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, why: fmt.Sprintf(format, args...)}
}

// ServeHTTP answers POST …/add-checkpoint.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, q.Body, maxRequest))
	if err != nil {
		http.Error(rw, "request too long", http.StatusBadRequest)
		return
	}
	line, err := w.add(body)
	var no *refusal
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = rw.Write(line)
	case errors.As(err, &no) && no.status == http.StatusConflict:
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", no.size)
	case errors.As(err, &no):
		http.Error(rw, no.why, no.status)
	default:
		http.Error(rw, "checkpoint could not be kept", http.StatusInternalServerError)
	}
}

// request is a parsed add-checkpoint body:
//
//	"old " decimal "\n" { base64 hash "\n" } "\n" checkpoint
type request struct {
	old        int64
	proof      tlog.TreeProof
	checkpoint []byte
}

func parseRequest(body []byte) (request, error) {
	var r request
	head, checkpoint, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return r, refuse(http.StatusBadRequest, "no empty line")
	}
	r.checkpoint = checkpoint
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	old, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || old < 0 || strconv.FormatInt(old, 10) != size {
		return r, refuse(http.StatusBadRequest, "old size line")
	}
	r.old = old
	if len(lines)-1 > maxProof {
		return r, refuse(http.StatusBadRequest, "%d proof lines", len(lines)-1)
	}
	for _, l := range lines[1:] {
		b, err := base64.StdEncoding.DecodeString(l)
		if err != nil || len(b) != tlog.HashSize {
			return r, refuse(http.StatusBadRequest, "proof line")
		}
		r.proof = append(r.proof, tlog.Hash(b))
	}
	return r, nil
}

// add runs the steps of the specification in their order and returns the
// cosignature line.
func (w *Witness) add(body []byte) ([]byte, error) {
	r, err := parseRequest(body)
	if err != nil {
		return nil, err
	}
	text, _, _ := bytes.Cut(r.checkpoint, []byte("\n\n"))
	claimed, err := ledger.ParseCheckpoint(string(text) + "\n")
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "checkpoint")
	}
	keys, ok := w.logs[claimed.Origin]
	if !ok {
		return nil, refuse(http.StatusNotFound, "unknown log")
	}
	c, n, err := ledger.OpenCheckpoint(r.checkpoint, claimed.Origin, keys)
	if err != nil {
		return nil, refuse(http.StatusForbidden, "no signature by a known key of the log")
	}
	if r.old > c.Size {
		return nil, refuse(http.StatusBadRequest, "old size above the checkpoint's")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last, err := w.last(c.Origin)
	if err != nil {
		return nil, err
	}
	if err := extends(last, c, r); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(w.path(c.Origin), r.checkpoint, 0o600); err != nil {
		return nil, err
	}
	return w.cosign(n.Text)
}

// extends checks the request against the last checkpoint signed.
func extends(last, c ledger.Checkpoint, r request) error {
	if r.old != last.Size {
		return &refusal{status: http.StatusConflict, size: last.Size, why: "old size is not the last one signed"}
	}
	switch {
	case r.old == c.Size && r.old > 0:
		if last.Root != c.Root {
			return &refusal{status: http.StatusConflict, size: last.Size, why: "another log of that size was signed"}
		}
		if len(r.proof) > 0 {
			return refuse(http.StatusUnprocessableEntity, "proof between equal sizes")
		}
	case r.old == 0:
		if len(r.proof) > 0 {
			return refuse(http.StatusUnprocessableEntity, "proof from the empty log")
		}
	case tlog.CheckTree(r.proof, c.Size, c.Root, last.Size, last.Root) != nil:
		return refuse(http.StatusUnprocessableEntity, "consistency proof does not verify")
	}
	return nil
}

func (w *Witness) path(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return filepath.Join(w.dir, hex.EncodeToString(h[:16])+".checkpoint")
}

// last returns the last checkpoint signed of a log, or one of size 0.
func (w *Witness) last(origin string) (ledger.Checkpoint, error) {
	b, err := os.ReadFile(w.path(origin))
	if errors.Is(err, os.ErrNotExist) {
		return ledger.Checkpoint{Origin: origin}, nil
	}
	if err != nil {
		return ledger.Checkpoint{}, fmt.Errorf("witness: %w", err)
	}
	text, _, _ := bytes.Cut(b, []byte("\n\n"))
	c, err := ledger.ParseCheckpoint(string(text) + "\n")
	if err == nil && c.Origin != origin {
		err = fmt.Errorf("witness: %s is of another log", w.path(origin))
	}
	return c, err
}

func (w *Witness) cosign(text string) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		return nil, fmt.Errorf("witness: sign: %w", err)
	}
	_, line, _ := bytes.Cut(signed, []byte("\n\n"))
	return line, nil
}
