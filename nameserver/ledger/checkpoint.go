package ledger

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint bounds a signed checkpoint in bytes: three lines and some
// hundred cosignatures.
const MaxCheckpoint = 32 << 10

// Checkpoint is the body of a signed checkpoint (C2SP tlog-checkpoint):
//
//	origin "\n" decimal size "\n" base64 root "\n"
//
// Extension lines are accepted and ignored, and never written.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
}

// String returns the note text.
func (c Checkpoint) String() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// ParseCheckpoint reads a note text, signed or not yet signed.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return c, fmt.Errorf("%w: checkpoint of %d lines", ErrMalformed, len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return c, fmt.Errorf("%w: checkpoint size %.20q", ErrMalformed, lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return c, fmt.Errorf("%w: checkpoint root", ErrMalformed)
	}
	c.Origin, c.Size = lines[0], size
	copy(c.Root[:], root)
	return c, nil
}

// SignCheckpoint returns the note of c signed by each signer.
func SignCheckpoint(c Checkpoint, signers ...note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.String()}, signers...)
}

// OpenCheckpoint parses a signed checkpoint and insists on the origin and on a
// good signature by one of log's keys. The note returned has every signature
// by a known key (log's or witnesses') under Sigs.
func OpenCheckpoint(msg []byte, origin string, log note.Verifiers, witnesses ...note.Verifier) (Checkpoint, *note.Note, error) {
	if len(msg) > MaxCheckpoint {
		return Checkpoint{}, nil, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(msg))
	}
	n, err := note.Open(msg, anyOf{log, note.VerifierList(witnesses...)})
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("%w: %v", ErrCheckpoint, err)
	}
	if !slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { _, err := log.Verifier(s.Name, s.Hash); return err == nil }) {
		return Checkpoint{}, nil, fmt.Errorf("%w: signed by witnesses only", ErrCheckpoint)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if c.Origin != origin {
		return Checkpoint{}, nil, fmt.Errorf("%w: origin %.64q, want %q", ErrCheckpoint, c.Origin, origin)
	}
	return c, n, nil
}

// anyOf looks a verifier up in one list after the other.
type anyOf []note.Verifiers

func (l anyOf) Verifier(name string, hash uint32) (note.Verifier, error) {
	for _, vs := range l {
		if v, err := vs.Verifier(name, hash); err == nil {
			return v, nil
		}
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
}

const sigPrefix = "— "

// MergeSignatures returns msg with the signature lines of extra appended that
// it has not yet. extra is a block of signature lines (a witness's answer) or a
// whole note over the same text; it is not verified here.
func MergeSignatures(msg, extra []byte) []byte {
	out := bytes.Clone(msg)
	if i := bytes.LastIndex(extra, []byte("\n\n"+sigPrefix)); i >= 0 {
		extra = extra[i+2:]
	}
	for line := range bytes.Lines(extra) {
		if bytes.HasPrefix(line, []byte(sigPrefix)) && !bytes.Contains(out, append([]byte("\n"), line...)) {
			out = append(out, bytes.TrimSuffix(line, []byte("\n"))...)
			out = append(out, '\n')
		}
	}
	return out
}
