// Package smalldisk gives tests a disk that they can fill: a tmpfs of a chosen size. It needs root.
package smalldisk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts a disk of size ("1m") until the test ends and returns its directory. Namespaces that are made afterwards see it too. Without
// the privilege the test is skipped, or fails when JIRANI_REQUIRE=1.
func Mount(tb testing.TB, size string) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("JIRANI_REQUIRE") == "1" {
			tb.Fatalf("mount a tmpfs: %v", err)
		}
		tb.Skipf("mount a tmpfs (root needed): %v", err)
	}
	tb.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// Fill takes all room that is left on the disk of dir, to the last byte, and returns how to give it back.
func Fill(tb testing.TB, dir string) (empty func()) {
	tb.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			tb.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			tb.Fatal(err)
		}
	}
}
