package provider

import (
	"io"
	"os"
)

const maxCredential = 64 << 10 // bytes; vendors' key files have a few thousand

// ReadCredential reads a vendor's key file. Of a longer one it returns the beginning, which no parser will take.
func ReadCredential(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCredential))
}
