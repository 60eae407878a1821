package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jirani/jirani/dht"
)

// maxFile bounds what is read: twice the 64 MiB a node stores by default,
// and room for operators who raise that.
const maxFile = 1 << 30

// Save writes the file so that a crash at any moment leaves the old or the new
// one whole: into a temporary file beside it, synced, then renamed. The
// temporary one has always the same name, so that crashes do not pile them up;
// two processes must not share a state file.
func Save(path string, s *State) error { return replace(path, s.Append(nil)) }

// Load reads and parses the file. A file that is not there is fs.ErrNotExist,
// one that cannot be read as a state file ErrDamaged.
func Load(path string, now time.Time, lifetime func(dht.ValueTypeID) time.Duration) (*State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrDamaged, maxFile)
	}
	return Parse(b, now, lifetime)
}

func replace(path string, data []byte) error {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write state: %w", err), os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// PortFile is the companion of a state file that remembers the bound ports.
func PortFile(path string) string { return path + "_port.txt" }

// AppendPorts appends the content of a port file: the IPv4 port, newline, the
// IPv6 port, newline. 0 stands for a family that is not in use.
func AppendPorts(dst []byte, port4, port6 uint16) []byte {
	dst = append(strconv.AppendUint(dst, uint64(port4), 10), '\n')
	return append(strconv.AppendUint(dst, uint64(port6), 10), '\n')
}

// ParsePorts reads a port file; the second line may be missing.
func ParsePorts(b []byte) (port4, port6 uint16, err error) {
	lines := bytes.Fields(b)
	if len(lines) < 1 || len(lines) > 2 {
		return 0, 0, fmt.Errorf("%w: port file of %d lines", ErrDamaged, len(lines))
	}
	var ports [2]uint16
	for i, line := range lines {
		n, err := strconv.ParseUint(string(line), 10, 16)
		if err != nil {
			return 0, 0, fmt.Errorf("%w: port file line %d", ErrDamaged, i+1)
		}
		ports[i] = uint16(n)
	}
	return ports[0], ports[1], nil
}

// SavePorts writes the port file of a state file.
func SavePorts(path string, port4, port6 uint16) error {
	return replace(PortFile(path), AppendPorts(nil, port4, port6))
}

// LoadPorts reads the port file of a state file.
func LoadPorts(path string) (port4, port6 uint16, err error) {
	b, err := os.ReadFile(PortFile(path))
	if err != nil {
		return 0, 0, err
	}
	return ParsePorts(b)
}
