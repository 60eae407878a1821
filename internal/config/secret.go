package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecret bounds a secret file: the largest is a service account's JSON of a few KiB.
const maxSecret = 64 << 10 // bytes

// SecretFile is the path of a file that holds one secret: a password, a token, a key. Configurations name secrets by file, never by
// value, so that they can be printed, compared and shown to others.
type SecretFile string

// Read returns the file's content without a trailing newline. It blocks on the file system. A file over 64 KiB is an error.
func (f SecretFile) Read() (string, error) {
	file, err := os.Open(string(f))
	if err != nil {
		return "", fmt.Errorf("config: secret: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("config: secret: %w", err)
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("config: secret %s is larger than %d bytes", f, maxSecret)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
