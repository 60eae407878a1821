package service

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/jirani/jirani/internal/config"
	"github.com/jirani/jirani/internal/durable"
)

// hinted is an error with advice on the next step.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint attaches to err what its reader can do about it. [Main] prints it on a line of its own.
func Hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// Report writes err for the person who started a program, as [Main] does: for commands that are not servers.
func Report(w io.Writer, program string, err error) { report(w, program, "", err) }

// report writes err for the person who started the program: one line per problem, with the file's line where there is one, then a hint.
// Joined errors are reported one by one.
func report(w io.Writer, program, path string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			report(w, program, path, e)
		}
		return
	}
	if problems, ok := errors.AsType[*config.Problems](err); ok {
		for _, p := range problems.All() {
			where := ""
			if p.Line > 0 {
				where = fmt.Sprintf("%s:%d: ", path, p.Line)
			}
			fmt.Fprintf(w, "%s: error: %s%s\n", program, where, p)
		}
		fmt.Fprintf(w, "%s: hint: %s -print-config shows every key with the value in force\n", program, program)
		return
	}
	fmt.Fprintf(w, "%s: error: %v\n", program, err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "%s: hint: %s\n", program, hint)
	}
}

func hintFor(err error) string {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.hint
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program holds that port: stop it, or choose another address with -set"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address: name one that it has, or 0.0.0.0 for all"
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE, files and state directories must be this user's"
	case errors.Is(err, durable.ErrLocked):
		return "stop the other process, or give this one its own directory"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full: make room and start again"
	}
	return ""
}
