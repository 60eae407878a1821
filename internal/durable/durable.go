// Package durable keeps files whole: a file is replaced as a unit or not at all, and a state directory belongs to one process.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked means that another process holds the directory. Stop it, or use another directory.
var ErrLocked = errors.New("state directory is in use by another process")

// WriteFile replaces the file at path by content: written beside it, synced, renamed, and the directory synced. After a crash or on a
// full disk either the old or the new content is there. It blocks on the disk. Concurrent calls for one path are the caller's to prevent.
func WriteFile(path string, content []byte, perm os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("durable: %w", err)
	}
	defer os.Remove(f.Name()) // fails once renamed
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(perm))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("durable: write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock is a held state directory.
type Lock struct{ f *os.File }

// LockDir makes the directory if need be (mode 0700) and takes it for this process, or returns [ErrLocked]. The lock ends with the
// process, however it ends; it does not block.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("durable: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("durable: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("durable: %s: %w", dir, err)
	}
	return &Lock{f}, nil
}

// Unlock gives the directory back. The lock file stays.
func (l *Lock) Unlock() error { return l.f.Close() }
